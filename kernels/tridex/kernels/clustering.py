"""Spherical k-means: centroids of unit length, by the largest inner product."""

from __future__ import annotations

import numpy as np
import torch

from .codebook import nearest

_SPLIT = 2.0**-10
"""How far the two halves of a split cluster's centroid lie apart, of each number: faiss's."""


def spherical_k_means(directions: torch.Tensor, count: int, *, iterations: int = 25, seed: int = 0) -> torch.Tensor:
    """Centroids of tokens: by faiss on a CPU, and on a GPU where the tokens are.

    Args:
        directions: float32 [n, dim] of unit length, at least `count`.
        count: Of centroids.
        iterations: Of Lloyd's algorithm.
        seed: The same one gives the same centroids on the same device.

    Returns:
        float32 [count, dim] of unit length, where `directions` is.

    Raises:
        ImportError: On a CPU faiss is not installed.
    """
    if directions.device.type != "cpu":
        return lloyd(directions, count, iterations=iterations, seed=seed)
    import faiss  # Takes a second to import, and most collections do without.

    kmeans = faiss.Kmeans(
        directions.shape[1], count, niter=iterations, spherical=True, seed=seed, min_points_per_centroid=1
    )
    kmeans.train(directions.numpy())
    return torch.from_numpy(np.asarray(kmeans.centroids, np.float32))


def lloyd(directions: torch.Tensor, count: int, *, iterations: int, seed: int) -> torch.Tensor:
    """Lloyd's algorithm on the tokens' own device. Args and Returns as `spherical_k_means`.

    No sum depends on the order in which a GPU's threads come.
    """
    drawn = torch.randperm(len(directions), generator=torch.Generator().manual_seed(seed))[:count]
    centroids = directions[drawn.to(directions.device)]
    for _ in range(iterations):
        ids = nearest(directions, centroids)
        sizes = torch.bincount(ids, minlength=count)
        sums = torch.segment_reduce(directions[ids.argsort(stable=True)], "sum", lengths=sizes)
        _split_largest(sums, sizes)
        centroids = torch.nn.functional.normalize(sums)
    return centroids


def _split_largest(sums: torch.Tensor, sizes: torch.Tensor) -> None:
    """Gives each centroid without tokens half of one of the largest clusters."""
    empty = (sizes == 0).nonzero()[:, 0]
    largest = sizes.topk(len(empty)).indices
    moved = sums.new_full((sums.shape[1],), _SPLIT)
    moved[1::2] = -_SPLIT
    sums[empty] = sums[largest] * (1 + moved)
    sums[largest] *= 1 - moved
