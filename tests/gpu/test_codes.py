"""Codes and codebooks that are made on the GPU: what a CPU makes of the same embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tridex.kernels import Codec, decode, encode, spherical_k_means, train_codebook
from tridex.kernels.clustering import lloyd


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    directions = torch.randn((40, 128), generator=chance).repeat(count // 40, 1)
    return torch.nn.functional.normalize(directions + torch.randn(directions.shape, generator=chance))


@pytest.mark.parametrize("codec", [codec for codec in Codec if not codec.residual_bits])
def test_rounded_numbers_have_the_cpu_s_bits(codec: Codec, device: torch.device) -> None:
    embeddings = tokens(4000)
    embeddings[7] = 0
    np.testing.assert_array_equal(encode(codec, embeddings.to(device)), encode(codec, embeddings.numpy()))


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_residuals_of_one_codebook(codec: Codec, device: torch.device) -> None:
    """A token halfway between two centroids, or buckets, may be given to either."""
    embeddings = tokens(4000)
    codebook = train_codebook(embeddings.to(device), codec, 64)
    assert codebook.centroids.device.type == "cpu"
    ours, theirs = encode(codec, embeddings.to(device), codebook), encode(codec, embeddings.numpy(), codebook)
    assert np.mean((ours != theirs).any(axis=1)) < 0.01
    errors = [
        np.linalg.norm(decode(codec, rows, codebook) - embeddings.numpy(), axis=1).mean() for rows in (ours, theirs)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_what_is_not_finite_is_refused(device: torch.device) -> None:
    embeddings = tokens(40).to(device)
    embeddings[3, 5] = float("nan")
    for codec in (Codec.FLOAT16, Codec.INT8):
        with pytest.raises(ValueError, match="embeddings holds nan"):
            encode(codec, embeddings)


def test_k_means_is_as_good_as_faiss_and_the_same_every_time(device: torch.device) -> None:
    sample = tokens(8000)
    one, other = (lloyd(sample.to(device), 64, iterations=10, seed=1).cpu() for _ in range(2))
    assert torch.equal(one, other)
    expected = spherical_k_means(sample, 64, iterations=10, seed=1)
    found, best = (float((sample @ centroids.T).amax(dim=1).mean()) for centroids in (one, expected))
    assert found >= 0.99 * best
