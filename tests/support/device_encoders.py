"""A DeviceEncoder without a GPU: what it would leave there are torch tensors on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.encoding import Encoder, TokenBatch
from tridex.encoding.scoring_tokens import scoring_tokens

_FILLER = 7.0
"""Behind a batch's tokens a GPU's runs have other texts' padding; here it is something that must not be seen."""


class HostDeviceEncoder:
    """Encodes by another encoder; wider than the tokens, as a CUDA graph's shape is."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def capture(self, widest: int) -> None:
        pass

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        return self._encoder.encode(batch)

    def encode_many(self, batches: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        return self._encoder.encode_many(batches)

    def encode_on_device(self, batches: Sequence[TokenBatch]) -> list[torch.Tensor]:
        encoded = [torch.from_numpy(array) for array in self._encoder.encode_many(batches)]
        return [torch.nn.functional.pad(array, (0, 0, 0, i % 3), value=_FILLER) for i, array in enumerate(encoded)]

    def encode_scoring(self, batches: Sequence[TokenBatch]) -> torch.Tensor:
        return scoring_tokens(self.encode_on_device(batches), [batch.embedding_mask for batch in batches])
