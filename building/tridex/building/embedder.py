"""Documents to the token embeddings that a collection stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import (
    Artifact,
    DeviceEncoder,
    DocumentReading,
    Encoder,
    TokenBatch,
    encode_in_small_batches,
    join_windows,
)

_CHARACTERS_HELD = 1 << 18
"""Characters of the documents that are encoded together: the embeddings of some 30 MB of float32 at 128 dimensions."""

Embed = Callable[[Sequence[str], bool], Iterator[NDArray[np.float32]]]
"""Texts, and whether long ones are read in windows, to each one's token embeddings, [tokens, dim], in order."""


class Embedder:
    """Embeds documents as a collection reads them; an `Embed`."""

    def __init__(self, artifact: Artifact, encoder: Encoder, reading: DocumentReading) -> None:
        self._tokenizer = artifact.tokenizer()
        self._encoder = encoder
        self._reading = reading

    def __call__(self, texts: Sequence[str], windows: bool) -> Iterator[NDArray[np.float32]]:
        """Each document's token embeddings, float32 [tokens, dim], in order.

        A document's windows stand one after the other, so that MaxSim takes each query token's best over all of them.
        Only some of the documents' embeddings are held at a time.

        Args:
            texts: The documents.
            windows: Whether long ones are read in windows; where not, they are cut.
        """
        reading = replace(self._reading, windows=windows)
        with ThreadPoolExecutor(1, "tokenise") as tokenising, ThreadPoolExecutor(1, "encode") as encoding:
            following: deque[Future[Iterator[NDArray[np.float32]]]] = deque()
            for some in _groups(texts):
                tokens = tokenising.submit(self._tokenizer.read, some, reading)
                following.append(encoding.submit(self._embedded, tokens, reading.pooling_factor))
                if len(following) > 1:
                    yield from following.popleft().result()
            if following:
                yield from following.popleft().result()

    def _embedded(
        self, tokens: Future[tuple[TokenBatch, NDArray[np.int64]]], pooling_factor: int
    ) -> Iterator[NDArray[np.float32]]:
        """Each document's token embeddings; meanwhile the next ones are tokenised, and the last ones' codes made."""
        batch, document_of_row = tokens.result()
        return join_windows(self._scoring(batch), np.bincount(document_of_row).tolist(), pooling_factor)

    def _scoring(self, batch: TokenBatch) -> list[NDArray[np.float32]]:
        """The embeddings of each row's scoring tokens."""
        rows = list(batch.rows())
        if isinstance(self._encoder, DeviceEncoder):
            embeddings = self._encoder.encode_many(rows)  # in batches that fill a GPU
        else:
            embeddings = encode_in_small_batches(self._encoder.encode, rows)
        return [array[0][row.embedding_mask[0] != 0] for array, row in zip(embeddings, rows, strict=True)]


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """The documents, in order, some at a time."""
    group: list[str] = []
    held = 0
    for text in texts:
        if group and held + len(text) > _CHARACTERS_HELD:
            yield group
            group, held = [], 0
        group.append(text)
        held += len(text)
    if group:
        yield group
