"""Token embeddings by the server's own encoder model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import TokenBatch
from tridex.protocol import limits, models

from .service import Arrays, Infer

_TOKENS_PER_CALL = 1024
"""Padded tokens of one call to the encoder. A search that arrives meanwhile waits for one call at most: some 0.2 s with
a 6-layer MiniLM on two CPU cores (70 documents of the standard library a second)."""


def encode_remotely(infer: Infer, rows: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
    """Tokens of several texts, [1, tokens] each, to their embeddings, [1, tokens, dim] each, in order."""
    widths = np.array([row.input_ids.shape[1] for row in rows])
    embeddings: dict[int, NDArray[np.float32]] = {}
    for call in small_calls(widths):
        batch = np.zeros((3, len(call), widths[call].max()), np.int64)
        for i, row in enumerate(call):
            texts = rows[row]
            batch[:, i, : widths[row]] = texts.input_ids[0], texts.attention_mask[0], texts.embedding_mask[0]
        outputs = infer(models.ENCODER.name, token_tensors(TokenBatch(*batch)), [models.EMBEDDINGS.name])
        for row, array in zip(call, np.asarray(outputs[models.EMBEDDINGS.name], np.float32), strict=True):
            embeddings[row] = array[None, : widths[row]]
    return [embeddings[row] for row in range(len(rows))]


def small_calls(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The texts of each call: neighbours by length, so that padding is small."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        full = end - start == limits.MAX_BATCH
        if end == len(order) or full or (end + 1 - start) * lengths[order[end]] > _TOKENS_PER_CALL:
            yield order[start:end]
            start = end


def token_tensors(batch: TokenBatch) -> Arrays:
    """The encoder's inputs."""
    return {
        models.INPUT_IDS.name: batch.input_ids,
        models.ATTENTION_MASK.name: batch.attention_mask,
        models.EMBEDDING_MASK.name: batch.embedding_mask,
    }
