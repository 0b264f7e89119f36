"""Documents to the token embeddings that a collection stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import Artifact, DocumentReading, Encoder, TokenBatch, encode_in_small_batches, join_windows

_CHARACTERS_HELD = 1 << 20
"""Characters of the documents whose embeddings are held at a time: some 120 MB of float32 at 128 dimensions."""

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
        for some in _groups(texts):
            batch, document_of_row = self._tokenizer.read(some, reading)
            windows_per_document = np.bincount(document_of_row, minlength=len(some)).tolist()
            yield from join_windows(self._scoring(batch), windows_per_document, reading.pooling_factor)

    def _scoring(self, batch: TokenBatch) -> list[NDArray[np.float32]]:
        """The embeddings of each row's scoring tokens."""
        rows = list(batch.rows())
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
