"""Many texts in several small batches, so that memory stays bounded and a search never waits long behind one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tridex.protocol import limits

from .tokenizer import TokenBatch

_TOKENS_PER_BATCH = 1024
"""Padded tokens of one call to the encoder. A search that arrives meanwhile waits for one call at most: some 0.2 s with
a 6-layer MiniLM on two CPU cores (70 documents of the standard library a second)."""


def groups_of_texts(texts: Iterable[str], most_characters: int) -> Iterator[list[str]]:
    """The texts, in order, some at a time: of so many characters together, unless it is one text."""
    group: list[str] = []
    held = 0
    for text in texts:
        if group and held + len(text) > most_characters:
            yield group
            group, held = [], 0
        group.append(text)
        held += len(text)
    if group:
        yield group


def encode_in_small_batches(
    encode: Callable[[TokenBatch], NDArray[np.float32]],
    texts: Sequence[TokenBatch],
    most_tokens: int = _TOKENS_PER_BATCH,
) -> list[NDArray[np.float32]]:
    """Encodes texts in batches of similar lengths.

    Args:
        encode: A batch to its embeddings, as `Encoder.encode`.
        texts: One text each, [1, tokens].
        most_tokens: Padded tokens of a batch, unless it is of one text.

    Returns:
        Each text's embeddings, float32 [1, tokens, dim], in the order of `texts`.
    """
    widths = np.array([text.input_ids.shape[1] for text in texts], np.int64)
    embeddings: dict[int, NDArray[np.float32]] = {}
    for rows in small_batches(widths, most_tokens, limits.MAX_BATCH):
        padded = np.zeros((3, len(rows), widths[rows].max()), np.int64)
        for i, row in enumerate(rows):
            text = texts[row]
            padded[:, i, : widths[row]] = text.input_ids[0], text.attention_mask[0], text.embedding_mask[0]
        for row, array in zip(rows, encode(TokenBatch(*padded)), strict=True):
            embeddings[row] = array[None, : widths[row]]
    return [embeddings[row] for row in range(len(texts))]


def small_batches(
    widths: NDArray[np.int64], most_tokens: int, most_texts: int, texts: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Which items run together: neighbours by width, so that padding is small.

    Args:
        widths: int64 [items], tokens of each.
        most_tokens: Padded tokens of one run, unless it is of one item.
        most_texts: Texts of one run, unless it is of one item.
        texts: int64 [items], texts of each; one where None.

    Yields:
        The items of each run.
    """
    order = np.argsort(widths, kind="stable")
    counts = np.ones(len(order), np.int64) if texts is None else texts[order]
    start, together = 0, 0
    for end, (width, count) in enumerate(zip(widths[order].tolist(), counts.tolist(), strict=True)):
        if end > start and (together + count > most_texts or (together + count) * width > most_tokens):
            yield order[start:end]
            start, together = end, 0
        together += count
    if len(order):
        yield order[start:]
