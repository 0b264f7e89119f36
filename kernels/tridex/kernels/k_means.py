"""Trains the residual codecs' codebook: centroids by spherical k-means, bucket weights by quantiles."""

from __future__ import annotations

import numpy as np
import torch

from .arrays import TokenEmbeddings, tensor_over
from .clustering import spherical_k_means
from .codebook import MAX_CENTROIDS, Codebook, nearest
from .codec import Codec

_MAX_RESIDUALS = 1 << 24
"""Residuals that the quantiles are taken from: torch.quantile takes no more."""


def train_codebook(sample: TokenEmbeddings, codec: Codec, centroids: int, seed: int = 0) -> Codebook:
    """Trains a codebook on a sample of the corpus, on the device that the sample is on.

    Args:
        sample: float32 [n, dim], token embeddings of any length but 0, at least as many as centroids; some tens for
            each are enough.
        codec: One that has a codebook: RESIDUAL4 or RESIDUAL2.
        centroids: 1 to 65,536; PLAID takes about 16 * sqrt(tokens of the corpus).
        seed: Of the k-means; the same one gives the same codebook.

    Returns:
        A codebook on the CPU. Its bucket weights are the quantiles in the middles of 2 ** bits buckets.

    Raises:
        ValueError: An argument is not as said.
        ImportError: On a CPU faiss is not installed.

    References:
        Santhanam et al., PLAID: An Efficient Engine for Late Interaction Retrieval, 2022, section 4.1.
    """
    if not codec.residual_bits:
        expected = " or ".join(known.value for known in Codec if known.residual_bits)
        raise ValueError(f"codec is {codec.value}; expected {expected}")
    dtype = str(sample.dtype).removeprefix("torch.")
    if dtype != "float32" or sample.ndim != 2 or not sample.shape[1]:
        raise ValueError(f"sample has dtype {dtype} and shape {list(sample.shape)}; expected float32 [n, dim]")
    codec.code_bytes(sample.shape[1])
    if not 1 <= centroids <= MAX_CENTROIDS:
        raise ValueError(f"centroids is {centroids}; expected 1 to {MAX_CENTROIDS}")
    if len(sample) < centroids:
        raise ValueError(f"sample has {len(sample)} tokens; expected at least {centroids}, the number of centroids")
    if isinstance(sample, torch.Tensor):
        numbers, lengths = sample, sample.norm(dim=1, keepdim=True)
    else:
        numbers = tensor_over(np.ascontiguousarray(sample))
        lengths = torch.from_numpy(np.linalg.norm(sample, axis=1, keepdims=True))
    if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
        raise ValueError("sample has a token that is zero or not finite; expected finite tokens of some length")

    directions = numbers / lengths
    trained = spherical_k_means(directions, centroids, seed=seed)
    tokens = directions[:: -(-directions.numel() // _MAX_RESIDUALS)]
    residuals = tokens - trained[nearest(tokens, trained)]
    middles = (torch.arange(2**codec.residual_bits, device=numbers.device) + 0.5) / 2**codec.residual_bits
    return Codebook.rounded(trained, torch.quantile(residuals.flatten(), middles)).to("cpu")
