"""Spherical k-means on a device, which is what faiss's finds as far as k-means finds one thing."""

from __future__ import annotations

import pytest
import torch

from tridex.kernels import Codec, spherical_k_means, train_codebook
from tridex.kernels.clustering import lloyd


def unit_vectors(count: int, dim: int, seed: int) -> torch.Tensor:
    vectors = torch.randn((count, dim), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors)


def mean_similarity(tokens: torch.Tensor, centroids: torch.Tensor) -> float:
    """What k-means maximises."""
    return float((tokens @ centroids.T).amax(dim=1).mean())


def test_it_is_as_good_as_faiss() -> None:
    centers = unit_vectors(40, 32, 1)
    tokens = torch.nn.functional.normalize(centers.repeat(50, 1) + 0.15 * unit_vectors(2000, 32, 2))
    found = lloyd(tokens, 64, iterations=25, seed=0)
    assert found.shape == (64, 32)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(64))
    expected = mean_similarity(tokens, spherical_k_means(tokens, 64))
    assert mean_similarity(tokens, found) >= 0.99 * expected


def test_no_centroid_stays_without_tokens_while_a_cluster_can_be_split() -> None:
    """Two tokens are drawn as centroids of almost every cluster, of which one gets all."""
    tokens = torch.nn.functional.normalize(unit_vectors(4, 16, 3).repeat(50, 1) + 0.01 * unit_vectors(200, 16, 4))
    found = lloyd(tokens.repeat(3, 1), 32, iterations=25, seed=1)
    assert found.isfinite().all()
    ids = (tokens @ found.T).argmax(dim=1)
    assert len(ids.unique()) == 32


def test_as_many_centroids_as_tokens_are_the_tokens() -> None:
    tokens = unit_vectors(9, 8, 5)
    found = lloyd(tokens, 9, iterations=3, seed=2)
    assert mean_similarity(tokens, found) == pytest.approx(1, abs=1e-6)


def test_a_seed_gives_the_same_centroids() -> None:
    tokens = unit_vectors(300, 8, 6)
    one, same, other = (lloyd(tokens, 10, iterations=5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_codebook_of_tensors_is_one_of_arrays() -> None:
    tokens = unit_vectors(500, 16, 7)
    one, other = (train_codebook(sample, Codec.RESIDUAL4, 8) for sample in (tokens, tokens.numpy()))
    assert torch.equal(one.bucket_weights, other.bucket_weights)
    assert (one.centroids.int() - other.centroids.int()).abs().max() <= 1
