"""Token embeddings by the server's own encoder model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import TokenBatch, encode_in_small_batches
from tridex.protocol import models

from .service import Infer


class RemoteEncoder:
    """An Encoder that calls the encoder model of the server that this process belongs to."""

    def __init__(self, infer: Infer, tokens_per_call: int) -> None:
        self._infer = infer
        self._tokens_per_call = tokens_per_call

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """One call: float32 [texts, tokens, dim]."""
        inputs = {
            models.INPUT_IDS.name: batch.input_ids,
            models.ATTENTION_MASK.name: batch.attention_mask,
            models.EMBEDDING_MASK.name: batch.embedding_mask,
        }
        outputs = self._infer(models.ENCODER.name, inputs, [models.EMBEDDINGS.name])
        return np.asarray(outputs[models.EMBEDDINGS.name], np.float32)

    def encode_many(self, batches: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        """Calls of few tokens each, so that a search never waits long for the model. Batches are of one text each."""
        return encode_in_small_batches(self.encode, batches, self._tokens_per_call)
