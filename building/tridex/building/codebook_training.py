"""The residual codecs' codebook of a new collection, trained on a sample of its documents."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np

from tridex.kernels import Codebook, Codec, TokenEmbeddings, concatenated, train_codebook

from .errors import BuildError

SAMPLED_DOCUMENTS = 2048
"""Documents whose tokens are clustered, sampled uniformly. A build encodes them twice: half a minute on two cores."""

_SAMPLED_TOKENS = 1 << 18
"""Of their tokens, sampled uniformly."""

_TOKENS_PER_CENTROID = 39
"""With fewer, k-means fits the sample instead of the corpus; faiss warns below this."""


def sampled_rows(documents: int) -> set[int]:
    """The row numbers of the documents to train on, of so many."""
    drawn = np.random.default_rng(0).choice(documents, min(documents, SAMPLED_DOCUMENTS), replace=False)
    return set(drawn.tolist())


def train(sample: Sequence[TokenEmbeddings], documents: int, codec: Codec) -> Codebook:
    """Trains a codebook.

    It has as many centroids as in ColBERTv2: the power of two below 16 * sqrt(tokens), and no more than the sample
    supports.

    Args:
        sample: Token embeddings of some documents, float32 [tokens, dim] each.
        documents: Documents of the collection.
        codec: A residual codec.

    Raises:
        BuildError: No token of the sample scores.

    References:
        Santhanam et al. 2022, "ColBERTv2", "Indexing".
    """
    tokens = concatenated(sample)
    if not len(tokens):
        raise BuildError("no token of the sampled documents scores: there is nothing to train centroids on")
    corpus_tokens = len(tokens) * documents // len(sample)
    if len(tokens) > _SAMPLED_TOKENS:
        tokens = tokens[np.random.default_rng(0).choice(len(tokens), _SAMPLED_TOKENS, replace=False)]
    return train_codebook(tokens, codec, centroids(corpus_tokens, len(tokens)))


def centroids(corpus_tokens: int, sampled_tokens: int) -> int:
    """The number of centroids for a corpus of so many tokens, of which so many are trained on.

    >>> centroids(1_000_000, 262_144)
    4096
    """
    wanted = min(16 * isqrt(corpus_tokens), sampled_tokens // _TOKENS_PER_CENTROID, 1 << 16)
    return 1 << max(wanted, 1).bit_length() - 1
