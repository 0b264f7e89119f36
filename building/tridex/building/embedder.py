"""Texts to token embeddings for the services that encode documents on the side: through the server's own encoder, in
batches small enough that a search never waits long behind one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import Artifact, DocumentReading, TokenBatch, pool_tokens
from tridex.protocol import models
from tridex.serving.backend.remote_encoder import small_calls, token_tensors
from tridex.serving.backend.service import Infer

_CHARACTERS_HELD = 1 << 20
"""Characters of the documents whose embeddings are held at a time: some 120 MB of float32 at 128 dimensions."""


class Embedder:
    """Encodes texts through the server's encoder model."""

    def __init__(self, artifact: Artifact, infer: Infer) -> None:
        self._tokenizer = artifact.tokenizer()
        self._infer = infer

    def query(self, text: str) -> NDArray[np.float32]:
        """The query's token embeddings, [tokens, dim]."""
        return self._encode(self._tokenizer.queries([text]))[0]

    def documents(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Each document's token embeddings as the checkpoint has it, long ones cut: [tokens, dim], in order."""
        return self._rows(self._tokenizer.documents(texts))

    def check_length(self, length: int) -> None:
        """Raises ValueError where documents cannot be read in so many tokens."""
        self._tokenizer.check_length(length)

    def collection_documents(self, texts: Sequence[str], reading: DocumentReading) -> Iterator[NDArray[np.float32]]:
        """Each document's token embeddings as a collection keeps it: [tokens, dim], in order.

        A document's windows stand one after the other, so that MaxSim takes each query token's best over all of them.
        Only a part of the documents is held at a time.
        """
        for part in _parts(texts):
            batch, of_text = self._tokenizer.read(part, reading)
            windows = np.bincount(of_text, minlength=len(part))
            yield from joined(self._rows(batch), windows.tolist(), reading.pooling_factor)

    def _rows(self, batch: TokenBatch) -> list[NDArray[np.float32]]:
        """The token embeddings of each row of a batch."""
        lengths = batch.attention_mask.sum(axis=1)
        embeddings: dict[int, NDArray[np.float32]] = {}
        for rows in small_calls(lengths):
            tokens = int(lengths[rows].max())
            part = TokenBatch(
                batch.input_ids[rows, :tokens], batch.attention_mask[rows, :tokens], batch.embedding_mask[rows, :tokens]
            )
            embeddings.update(zip(rows.tolist(), self._encode(part), strict=True))
        return [embeddings[i] for i in range(len(lengths))]

    def _encode(self, batch: TokenBatch) -> list[NDArray[np.float32]]:
        outputs = self._infer(models.ENCODER.name, token_tensors(batch), [models.EMBEDDINGS.name])
        embeddings = np.asarray(outputs[models.EMBEDDINGS.name])
        return [rows[mask != 0] for rows, mask in zip(embeddings, batch.embedding_mask, strict=True)]


def joined(
    windows: Sequence[NDArray[np.float32]], of_document: Sequence[int], pooling_factor: int
) -> Iterator[NDArray[np.float32]]:
    """Documents of so many windows each, one after the other: pools each window, and puts a document's together."""
    remaining = iter(windows)
    for count in of_document:
        own = [pool_tokens(window, pooling_factor) for window in islice(remaining, count)]
        yield own[0] if count == 1 else np.concatenate(own)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """The documents, in order, some at a time."""
    part: list[str] = []
    held = 0
    for text in texts:
        if part and held + len(text) > _CHARACTERS_HELD:
            yield part
            part, held = [], 0
        part.append(text)
        held += len(text)
    if part:
        yield part
