"""The residual codecs' codebook: centroids, and the values that a residual is rounded to in each dimension.

    value = centroid + step * bucket_weights[code],  code = the bucket with the nearest weight, one for each dimension

After ColBERTv2: a token is its nearest centroid and a residual of 2 or 4 bits per dimension, in buckets that hold
equally many of the training sample's residuals. Bucket weights are whole multiples of one step, so that a query's
product with a residual is a product of int8 numbers.

References:
    Santhanam et al., ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction, 2022, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

MAX_CENTROIDS = 2**16
"""A centroid's id has 16 bits."""

_TOKENS_PER_PRODUCT = 1 << 24
"""Similarities of tokens and centroids computed at a time: 64 MiB."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """Centroids and bucket weights, on one device.

    Raises:
        ValueError: A field has another dtype, shape, device or range than is said here.
    """

    centroids: torch.Tensor
    """float16 [centroids, dim], of unit length before they were rounded."""
    bucket_weights: torch.Tensor
    """int8 [2 ** bits], ascending."""
    step: float
    """What a bucket weight of 1 is worth; a float32."""

    def __post_init__(self) -> None:
        count = len(self.centroids) if self.centroids.ndim == 2 else 0
        if self.centroids.dtype != torch.float16 or not 1 <= count <= MAX_CENTROIDS:
            raise ValueError(
                f"centroids is {self.centroids.dtype} {list(self.centroids.shape)}; "
                f"expected torch.float16 [1 to {MAX_CENTROIDS}, dim]"
            )
        weights = self.bucket_weights
        if weights.dtype != torch.int8 or weights.shape not in ((4,), (16,)):
            raise ValueError(
                f"bucket_weights is {weights.dtype} {list(weights.shape)}; expected torch.int8 [4] or [16]"
            )
        if weights.device != self.centroids.device:
            raise ValueError(f"bucket_weights is on {weights.device}; expected {self.centroids.device}, as centroids")
        if not 0 < self.step < float("inf") or self.step != float(np.float32(self.step)):
            raise ValueError(f"step is {self.step}; expected a positive float32")

    @property
    def dim(self) -> int:
        """Dimensions of a centroid."""
        return self.centroids.shape[1]

    @property
    def bits(self) -> int:
        """Bits of a residual's code in one dimension."""
        return len(self.bucket_weights).bit_length() - 1

    def to(self, device: torch.device | str) -> Codebook:
        """The same codebook on a device."""
        return Codebook(self.centroids.to(device), self.bucket_weights.to(device), self.step)

    def encode(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encodes the direction of tokens; the scale gives the decoded token their length.

        Args:
            embeddings: float32 [tokens, dim], finite.

        Returns:
            Codes uint8 [tokens, dim * bits / 8], scales float16 [tokens], and the centroids' ids int16 [tokens], the
            bits of a uint16.
        """
        lengths = embeddings.norm(dim=1, keepdim=True)
        directions = embeddings / lengths.clamp(min=torch.finfo(torch.float32).tiny)
        ids = nearest(directions, self.centroids.float())
        nearest_centroids = self.centroids.float()[ids]
        values = self.step * self.bucket_weights.float()
        buckets = torch.bucketize(directions - nearest_centroids, (values[1:] + values[:-1]) / 2)
        decoded = nearest_centroids + values[buckets]
        scales = lengths / decoded.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float16).tiny)
        width = self.dim * self.bits // 8
        codes = torch.zeros((len(embeddings), width), dtype=torch.uint8)
        for part in range(8 // self.bits):
            codes |= buckets[:, part * width : (part + 1) * width].to(torch.uint8) << self.bits * part
        return codes, scales[:, 0].half(), ids.to(torch.int16)

    def decode(self, codes: torch.Tensor, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """centroid + residual [tokens, dim], computed in float32 or float64; what `encode` returned, without scales."""
        residuals = self.bucket_weights_of(codes).to(dtype) * self.step
        return self.centroids.to(dtype)[ids.long() & 0xFFFF] + residuals

    def bucket_weights_of(self, codes: torch.Tensor) -> torch.Tensor:
        """The bucket weights int8 [tokens, dim] of codes uint8 [tokens, dim * bits / 8].

        Byte i holds the codes of the dimensions i, i + bytes, i + 2 bytes and so on, from the low bits up: a block of
        bytes is unpacked by shifts and masks into blocks of neighbouring dimensions.
        """
        shifts = range(0, 8, self.bits)
        parts = [(codes >> shift) & (len(self.bucket_weights) - 1) for shift in shifts]
        return self.bucket_weights[torch.cat(parts, dim=1).long()]


def nearest(directions: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The ids int64 [tokens] of the centroids with the largest inner products."""
    if not len(directions):
        return torch.empty(0, dtype=torch.int64)
    chunks = torch.split(directions, max(1, _TOKENS_PER_PRODUCT // len(centroids)))
    return torch.cat([(chunk @ centroids.T).argmax(dim=1) for chunk in chunks])
