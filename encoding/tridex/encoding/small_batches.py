"""Many texts in several small batches, so that memory stays bounded and a search never waits long behind one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tridex.protocol import limits

from .tokenizer import TokenBatch

_TOKENS_PER_BATCH = 1024
"""Padded tokens of one call to the encoder. A search that arrives meanwhile waits for one call at most: some 0.2 s with
a 6-layer MiniLM on two CPU cores (70 documents of the standard library a second)."""


def encode_in_small_batches(
    encode: Callable[[TokenBatch], NDArray[np.float32]], texts: Sequence[TokenBatch]
) -> list[NDArray[np.float32]]:
    """Encodes texts in batches of similar lengths.

    Args:
        encode: A batch to its embeddings, as `Encoder.encode`.
        texts: One text each, [1, tokens].

    Returns:
        Each text's embeddings, float32 [1, tokens, dim], in the order of `texts`.
    """
    widths = np.array([text.input_ids.shape[1] for text in texts], np.int64)
    embeddings: dict[int, NDArray[np.float32]] = {}
    for rows in _batches(widths):
        padded = np.zeros((3, len(rows), widths[rows].max()), np.int64)
        for i, row in enumerate(rows):
            text = texts[row]
            padded[:, i, : widths[row]] = text.input_ids[0], text.attention_mask[0], text.embedding_mask[0]
        for row, array in zip(rows, encode(TokenBatch(*padded)), strict=True):
            embeddings[row] = array[None, : widths[row]]
    return [embeddings[row] for row in range(len(texts))]


def _batches(widths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The texts of each batch: neighbours by width, so that padding is small."""
    order = np.argsort(widths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        full = end - start == limits.MAX_BATCH
        if end == len(order) or full or (end + 1 - start) * widths[order[end]] > _TOKENS_PER_BATCH:
            yield order[start:end]
            start = end
