"""The residual codecs' codebook: centroids, and the values that a residual is rounded to in each dimension.

    value = step * (centroid + bucket_weights[code]),  code = the bucket with the nearest weight, one for each dimension

After ColBERTv2: a token is its nearest centroid and a residual of 2 or 4 bits per dimension, in buckets that hold
equally many of the training sample's residuals. Centroids and bucket weights are whole multiples of one step, and their
sums fit int8: a query's product with a token is one of int8 numbers, and exact.

References:
    Santhanam et al., ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction, 2022, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

MAX_CENTROIDS = 2**16
"""A centroid's id has 16 bits."""

_LARGEST = 127
"""What a centroid's and a bucket weight's magnitudes may come to together."""

_TOKENS_PER_PRODUCT = 1 << 24
"""Similarities of tokens and centroids computed at a time: 64 MiB."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """Centroids and bucket weights, on one device.

    Raises:
        ValueError: A field has another dtype, shape, device or range than is said here.
    """

    centroids: torch.Tensor
    """int8 [centroids, dim], as many steps: a centroid has about unit length."""
    bucket_weights: torch.Tensor
    """int8 [2 ** bits], ascending. The largest magnitudes of a centroid's number and of a weight sum to 127 at most."""
    step: float
    """What 1 is worth; a float32."""

    def __post_init__(self) -> None:
        count = len(self.centroids) if self.centroids.ndim == 2 else 0
        if self.centroids.dtype != torch.int8 or not 1 <= count <= MAX_CENTROIDS:
            raise ValueError(
                f"centroids is {self.centroids.dtype} {list(self.centroids.shape)}; "
                f"expected torch.int8 [1 to {MAX_CENTROIDS}, dim]"
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
        centroid, weight = _magnitude(self.centroids), _magnitude(weights)
        if centroid + weight > _LARGEST:
            raise ValueError(
                f"centroids has {centroid} and bucket_weights {weight} as the largest magnitude; "
                f"expected {_LARGEST} at most together"
            )

    @classmethod
    def rounded(cls, centroids: torch.Tensor, values: torch.Tensor) -> Codebook:
        """The codebook of the smallest step that centroids and buckets' values can be rounded to multiples of.

        Args:
            centroids: Floating point [centroids, dim], one of them not 0.
            values: float32 [2 ** bits], ascending: what the residual's codes stand for.
        """
        # Rounded to the nearest, two numbers may come to 1 more than they were.
        largest = float(centroids.abs().max()) + float(values.abs().max())
        step = float(np.float32(largest / (_LARGEST - 1)))
        in_steps = [(numbers.float() / step).round().to(torch.int8) for numbers in (centroids, values)]
        return cls(in_steps[0], in_steps[1], step)

    @property
    def dim(self) -> int:
        """Dimensions of a centroid."""
        return self.centroids.shape[1]

    @property
    def bits(self) -> int:
        """Bits of a residual's code in one dimension."""
        return len(self.bucket_weights).bit_length() - 1

    def directions(self) -> torch.Tensor:
        """What the centroids stand for: float32 [centroids, dim], of about unit length."""
        return self.step * self.centroids.float()

    def to(self, device: torch.device | str) -> Codebook:
        """The same codebook on a device; where it is there already, itself, whose numbers are not looked at again."""
        if self.centroids.device == torch.device(device):
            return self
        return Codebook(self.centroids.to(device), self.bucket_weights.to(device), self.step)

    def encode(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encodes the direction of tokens; the scale gives the decoded token their length.

        Args:
            embeddings: float32 [tokens, dim], finite, on the codebook's device.

        Returns:
            Codes uint8 [tokens, dim * bits / 8], scales float16 [tokens], and the centroids' ids int16 [tokens], the
            bits of a uint16.
        """
        lengths = embeddings.norm(dim=1, keepdim=True)
        steps = embeddings / lengths.clamp(min=torch.finfo(torch.float32).tiny) / self.step
        ids = nearest(steps, self.centroids.float())
        nearest_centroids = self.centroids.float()[ids]
        weights = self.bucket_weights.float()
        buckets = torch.bucketize(steps - nearest_centroids, (weights[1:] + weights[:-1]) / 2)
        decoded = self.step * (nearest_centroids + weights[buckets])
        scales = lengths / decoded.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float16).tiny)
        width = self.dim * self.bits // 8
        codes = torch.zeros((len(embeddings), width), dtype=torch.uint8, device=embeddings.device)
        for part in range(8 // self.bits):
            codes |= buckets[:, part * width : (part + 1) * width].to(torch.uint8) << self.bits * part
        return codes, scales[:, 0].half(), ids.to(torch.int16)

    def decode(self, codes: torch.Tensor, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The tokens' values [tokens, dim] before they are scaled, in float32 or float64; what `encode` returned."""
        numbers = self.centroids[ids.long() & 0xFFFF] + self.bucket_weights_of(codes)
        return numbers.to(dtype) * self.step

    def bucket_weights_of(self, codes: torch.Tensor) -> torch.Tensor:
        """The bucket weights int8 [tokens, dim] of codes uint8 [tokens, dim * bits / 8].

        Byte i holds the codes of the dimensions i, i + bytes, i + 2 bytes and so on, from the low bits up: a block of
        bytes is unpacked by shifts and masks into blocks of neighbouring dimensions.
        """
        shifts = range(0, 8, self.bits)
        parts = [(codes >> shift) & (len(self.bucket_weights) - 1) for shift in shifts]
        return self.bucket_weights[torch.cat(parts, dim=1).long()]


def nearest(tokens: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """The ids int64 [tokens] of the centroids with the largest inner products."""
    if not len(tokens):
        return torch.empty(0, dtype=torch.int64, device=tokens.device)
    chunks = torch.split(tokens, max(1, _TOKENS_PER_PRODUCT // len(centroids)))
    return torch.cat([(chunk @ centroids.T).argmax(dim=1) for chunk in chunks])


def _magnitude(numbers: torch.Tensor) -> int:
    """The largest magnitude in an int8 tensor; -128 has one, too."""
    return max(-int(numbers.min()), int(numbers.max())) if numbers.numel() else 0
