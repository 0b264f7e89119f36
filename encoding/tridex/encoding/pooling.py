"""Token pooling: fewer token embeddings per document, each the mean of similar ones.

After Clavié et al. 2024 ("Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token
Pooling"): Ward's hierarchical clustering of cosine distances. The same rules as Sentence Transformers'
HierarchicalTokenPooling: the first token, usually [CLS], is kept as it is, and the means are normalised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray


def pool_tokens(embeddings: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Keeps one token for `factor` of them. Memory grows with the square of their number.

    Args:
        embeddings: float32 [tokens, dim], of unit length.
        factor: Token embeddings that one is kept for.

    Returns:
        float32 [1 + (tokens - 1) // factor, dim], or fewer rows on ties, of unit length.
    """
    return cluster_means(embeddings, pool_members(embeddings, factor))


def pool_members(embeddings: NDArray[np.float32], factor: int) -> NDArray[np.int64]:
    """Which of the embeddings that `pool_tokens` returns each token is part of.

    Args:
        embeddings: float32 [tokens, dim], of unit length.
        factor: Token embeddings that one is kept for.

    Returns:
        int64 [tokens].
    """
    rest = embeddings[1:]
    wanted = max(len(rest) // factor, 1)
    if wanted >= len(rest):
        return np.arange(len(embeddings))
    # Takes a tenth of a second to import, and most collections do not pool.
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distances = np.clip(1 - rest @ rest.T, 0, 2)
    clusters = fcluster(linkage(squareform(distances, checks=False), method="ward"), t=wanted, criterion="maxclust")
    _, members = np.unique(clusters, return_inverse=True)
    return np.concatenate([[0], 1 + members])


def cluster_means(embeddings: NDArray[np.float32], members: NDArray[np.int64]) -> NDArray[np.float32]:
    """The pooled embeddings, float32 [clusters, dim], where `members` is as `pool_members` returns it."""
    if members.max(initial=0) >= len(members) - 1:
        return embeddings
    sums = np.zeros((members.max() + 1, embeddings.shape[1]), np.float32)
    np.add.at(sums, members, embeddings)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means: NDArray[np.float32] = sums / np.maximum(lengths, np.finfo(np.float32).tiny)
    means[0] = embeddings[0]
    return means


def join_windows(
    windows: Iterable[NDArray[np.float32]], windows_per_document: Sequence[int], pooling_factor: int
) -> Iterator[NDArray[np.float32]]:
    """Pools each window by itself and puts a document's windows one after the other.

    Args:
        windows: The windows of all documents, in order: float32 [tokens, dim] each.
        windows_per_document: How many of them each document has.
        pooling_factor: One token embedding is kept for this many.

    Returns:
        Each document's token embeddings, float32 [tokens, dim].
    """
    remaining = iter(windows)
    for count in windows_per_document:
        own = [pool_tokens(window, pooling_factor) for window in islice(remaining, count)]
        yield own[0] if count == 1 else np.concatenate(own)
