"""The residual codecs' codebook: centroids, and the values that a residual is rounded to in each dimension.

    value = centroid + step * levels[code],  code = the nearest level's, one for each dimension

After ColBERTv2 (Santhanam et al. 2022, section 3.3): a token is its nearest centroid and a residual of 2 or 4 bits a
dimension, in buckets that hold equally many of the training sample's residuals. Levels are whole multiples of one step,
so that a query's product with a residual is a product of int8 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import tensor_over
from .codecs import Codec

MAX_CENTROIDS = 2**16
"""A centroid's id has 16 bits."""

_TOKENS_PER_PRODUCT = 1 << 24
"""Similarities of tokens and centroids computed at a time: 64 MiB."""

_MAX_RESIDUALS = 1 << 24
"""Residuals that the quantiles are taken from: torch.quantile takes no more."""

_SMALLEST_STEP = 2.0**-24
"""float16's smallest number: residuals below it are the rounding of the centroids."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """Raises ValueError where a field is not what is said here."""

    centroids: torch.Tensor
    """float16 [centroids, dim], of unit length before they were rounded."""
    levels: torch.Tensor
    """int8 [2 ** bits], ascending."""
    step: float
    """What a level of 1 is worth; a float32."""

    def __post_init__(self) -> None:
        count = len(self.centroids) if self.centroids.ndim == 2 else 0
        if self.centroids.dtype != torch.float16 or not 1 <= count <= MAX_CENTROIDS:
            raise ValueError(
                f"centroids is {self.centroids.dtype} {list(self.centroids.shape)}; "
                f"expected torch.float16 [1 to {MAX_CENTROIDS}, dim]"
            )
        if self.levels.dtype != torch.int8 or self.levels.shape not in ((4,), (16,)):
            raise ValueError(
                f"levels is {self.levels.dtype} {list(self.levels.shape)}; expected torch.int8 [4] or [16]"
            )
        if self.levels.device != self.centroids.device:
            raise ValueError(f"levels is on {self.levels.device}; expected {self.centroids.device}, as centroids")
        if not 0 < self.step < float("inf") or self.step != float(np.float32(self.step)):
            raise ValueError(f"step is {self.step}; expected a positive float32")

    @property
    def dim(self) -> int:
        """Dimensions of a centroid."""
        return self.centroids.shape[1]

    @property
    def bits(self) -> int:
        """Bits of a residual's code in one dimension."""
        return len(self.levels).bit_length() - 1

    def to(self, device: torch.device | str) -> Codebook:
        """The same codebook on a device."""
        return Codebook(self.centroids.to(device), self.levels.to(device), self.step)

    def encode(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes uint8 [tokens, dim * bits / 8], ids int16 [tokens, 1] and scales float16 [tokens, 1].

        embeddings: float32 [tokens, dim]. Their direction is coded, and the scale gives the decoded token their length.
        """
        lengths = embeddings.norm(dim=1, keepdim=True)
        directions = embeddings / lengths.clamp(min=torch.finfo(torch.float32).tiny)
        ids = nearest(directions, self.centroids.float())
        nearest_centroids = self.centroids.float()[ids]
        values = self.step * self.levels.float()
        levels = torch.bucketize(directions - nearest_centroids, (values[1:] + values[:-1]) / 2)
        decoded = nearest_centroids + values[levels]
        scales = lengths / decoded.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float16).tiny)
        width = self.dim * self.bits // 8
        codes = torch.zeros((len(embeddings), width), dtype=torch.uint8)
        for part in range(8 // self.bits):
            codes |= levels[:, part * width : (part + 1) * width].to(torch.uint8) << self.bits * part
        return codes, ids.to(torch.int16)[:, None], scales.half()

    def decode(self, codes: torch.Tensor, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """centroid + residual [tokens, dim], computed in float32 or float64; what `encode` returned, without scales."""
        residuals = self.levels_of(codes).to(dtype) * self.step
        return self.centroids.to(dtype)[ids.long() & 0xFFFF] + residuals

    def levels_of(self, codes: torch.Tensor) -> torch.Tensor:
        """The levels int8 [tokens, dim] of codes uint8 [tokens, dim * bits / 8].

        Byte i holds the codes of the dimensions i, i + bytes, i + 2 bytes and so on, from the low bits up: a block of
        bytes is unpacked by shifts and masks into blocks of neighbouring dimensions.
        """
        shifts = range(0, 8, self.bits)
        parts = [(codes >> shift) & (len(self.levels) - 1) for shift in shifts]
        return self.levels[torch.cat(parts, dim=1).long()]


def nearest(directions: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The ids int64 [tokens] of the centroids with the largest inner products."""
    if not len(directions):
        return torch.empty(0, dtype=torch.int64)
    chunks = torch.split(directions, max(1, _TOKENS_PER_PRODUCT // len(centroids)))
    return torch.cat([(chunk @ centroids.T).argmax(dim=1) for chunk in chunks])


def train_codebook(sample: NDArray[np.float32], codec: Codec, centroids: int, seed: int = 0) -> Codebook:
    """Trains a codebook: centroids by spherical k-means (faiss), levels at the middles of the residuals' quantiles.

    sample: float32 [n, dim], token embeddings of the corpus, of any length but 0, at least as many as centroids; some
    tens for each are enough. codec: RESIDUAL4 or RESIDUAL2. centroids: 1 to 65,536; PLAID (Santhanam et al. 2022,
    section 4.1) takes about 16 * sqrt(tokens of the corpus).
    Raises ValueError where an argument is not as said, and ImportError without faiss.
    """
    if not codec.residual_bits:
        raise ValueError(f"codec is {codec.value}; expected residual4 or residual2")
    if sample.dtype != np.float32 or sample.ndim != 2 or not sample.shape[1]:
        raise ValueError(f"sample has dtype {sample.dtype} and shape {list(sample.shape)}; expected float32 [n, dim]")
    codec.code_bytes(sample.shape[1])
    if not 1 <= centroids <= MAX_CENTROIDS:
        raise ValueError(f"centroids is {centroids}; expected 1 to {MAX_CENTROIDS}")
    if len(sample) < centroids:
        raise ValueError(f"sample has {len(sample)} tokens; expected at least {centroids}, the number of centroids")
    lengths = np.linalg.norm(sample, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise ValueError("sample has a token that is zero or not finite; expected finite tokens of some length")

    import faiss

    directions = np.ascontiguousarray(sample / lengths)
    kmeans = faiss.Kmeans(sample.shape[1], centroids, spherical=True, seed=seed, min_points_per_centroid=1)
    kmeans.train(directions)
    rounded = torch.from_numpy(kmeans.centroids).half()
    tokens = tensor_over(directions)[:: -(-directions.size // _MAX_RESIDUALS)]
    residuals = tokens - rounded.float()[nearest(tokens, rounded.float())]
    middles = (torch.arange(2**codec.residual_bits) + 0.5) / 2**codec.residual_bits
    values = torch.quantile(residuals.flatten(), middles)
    step = max(float(values.abs().max() / 127), _SMALLEST_STEP)
    return Codebook(rounded, (values / step).round().to(torch.int8), step)
