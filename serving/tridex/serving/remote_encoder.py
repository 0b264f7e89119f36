"""Token embeddings by the server's own encoder model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import TokenBatch
from tridex.protocol import models

from .service import Arrays, Infer


def encode_remotely(infer: Infer, rows: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
    """Tokens of several texts, [1, tokens] each, to their embeddings, [1, tokens, dim] each, in one call."""
    width = max(row.input_ids.shape[1] for row in rows)
    batch = np.zeros((3, len(rows), width), np.int64)
    for i, row in enumerate(rows):
        own = row.input_ids.shape[1]
        batch[:, i, :own] = row.input_ids[0], row.attention_mask[0], row.embedding_mask[0]
    outputs = infer(models.ENCODER.name, token_tensors(TokenBatch(*batch)), [models.EMBEDDINGS.name])
    embeddings = np.asarray(outputs[models.EMBEDDINGS.name], np.float32)
    return [embeddings[i : i + 1, : row.input_ids.shape[1]] for i, row in enumerate(rows)]


def token_tensors(batch: TokenBatch) -> Arrays:
    """The encoder's inputs."""
    return {
        models.INPUT_IDS.name: batch.input_ids,
        models.ATTENTION_MASK.name: batch.attention_mask,
        models.EMBEDDING_MASK.name: batch.embedding_mask,
    }
