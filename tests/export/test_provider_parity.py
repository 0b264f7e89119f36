"""What another provider computes is compared with the CPU's, before anything is served by it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tridex.encoding import Artifact, Encoder, ProviderError, TokenBatch, create_encoder
from tridex.encoding.parity import check_against_the_cpu


@pytest.fixture
def small(exported: Callable[[str, str], Artifact]) -> Artifact:
    return exported("native_min_expansion", "fp32")


class Rounding:
    """Encodes with so many bits, or wrongly."""

    def __init__(self, encoder: Encoder, noise: float) -> None:
        self._encoder, self._noise = encoder, noise

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        exact = self._encoder.encode(batch)
        noise = np.random.default_rng(0).standard_normal(exact.shape).astype(np.float32)
        return np.asarray(exact + self._noise * noise * (batch.embedding_mask[..., None] != 0), np.float32)

    def encode_many(self, batches: list[TokenBatch]) -> list[NDArray[np.float32]]:
        return [self.encode(batch) for batch in batches]


@pytest.mark.parametrize("noise", [0.05, float("nan")])
def test_other_embeddings_are_refused_with_the_figures(small: Artifact, noise: float) -> None:
    cpu = create_encoder(small)
    with pytest.raises(
        ProviderError,
        match=r"TensorRT computes other embeddings .*: score error .*at most 0\.01.*; serve without --tens",
    ):
        check_against_the_cpu(Rounding(cpu, noise), cpu, small, "TensorRT")  # type: ignore[arg-type]


def test_last_bits_are_not(small: Artifact) -> None:
    cpu = create_encoder(small)
    parity = check_against_the_cpu(Rounding(cpu, 2.0**-13), cpu, small, "TensorRT")  # type: ignore[arg-type]
    assert 0 < parity.score_error < 0.01 and parity.token_cosine > 0.9999
