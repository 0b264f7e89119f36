"""Codecs: how a document's token embeddings are kept, in the store as rows of bytes and in a segment as columns.

    codec         a token's value                                       bytes per token at 128 dimensions
    float32       the number                                            512
    float16       the number                                            256
    bfloat16      the number                                            256
    float8_e4m3   code / 256                                            128
    int8          scale * code                                          130: 128 codes, scale
    residual4     scale * step * (centroid + bucket_weights[code])       68:  64 codes, centroid's id, scale
    residual2     scale * step * (centroid + bucket_weights[code])       36:  32 codes, centroid's id, scale

float8's 256 puts unit vectors into e4m3's normal range. The residual codecs are ColBERTv2's (codebook.py).

Each member of `Codec` has its entry in `LAYOUTS` here and in `DESCRIPTIONS` (codecs.py), and everything else follows
from these. They are two because a description needs torch, which takes 140 MB and a second to start, and processes that
read documents without their codes need a layout alone.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .codebook import Codebook

_ENTRY_BYTES = 2
"""Of a scale, and of a centroid's id."""


class Layout(NamedTuple):
    """How a token's bytes lie."""

    bits: int
    """Of a code, one for each dimension."""
    has_scales: bool = False
    """Whether there is a column of scales, and a scale for each query token."""
    has_codebook: bool = False
    """Whether a code is a residual's bucket, and there is a column of centroids' ids."""
    dim_multiple: int = 1
    """Dimensions must be a multiple of it."""

    @property
    def tail_bytes(self) -> int:
        """Bytes of a row behind the codes."""
        return _ENTRY_BYTES * (self.has_scales + self.has_codebook)


class Codec(Enum):
    """What a token embedding is stored as; the value is the name that users type."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8 = "float8_e4m3"
    INT8 = "int8"
    RESIDUAL4 = "residual4"
    RESIDUAL2 = "residual2"

    @property
    def layout(self) -> Layout:
        """How a token's bytes lie."""
        return LAYOUTS[self]

    @property
    def residual_bits(self) -> int:
        """Bits of a residual's code in one dimension; 0 for the codecs without a codebook."""
        return self.layout.bits if self.layout.has_codebook else 0

    def fits(self, dim: int) -> bool:
        """Whether the codec can cut tokens of `dim` dimensions into bytes."""
        return dim % self.layout.dim_multiple == 0

    def code_bytes(self, dim: int) -> int:
        """Bytes of one token's codes. Raises ValueError for a dim that does not fit."""
        if not self.fits(dim):
            raise ValueError(f"dim is {dim}; expected a multiple of {self.layout.dim_multiple} for {self.value}")
        return dim * self.layout.bits // 8

    def bytes_per_token(self, dim: int) -> int:
        """Bytes of one token embedding of `dim` numbers in the store. Raises ValueError for a dim that does not fit."""
        return self.code_bytes(dim) + self.layout.tail_bytes

    def check_codebook(self, codebook: Codebook | None, dim: int) -> None:
        """Raises ValueError where the codebook is missing, not wanted, or made for another codec or dim."""
        if codebook is None:
            if self.residual_bits:
                raise ValueError(f"codebook is None; expected the codebook of {self.value} (train_codebook)")
        elif not self.residual_bits:
            raise ValueError(f"codebook is given; expected None for {self.value}")
        elif codebook.bits != self.residual_bits:
            raise ValueError(
                f"codebook has {len(codebook.bucket_weights)} bucket weights; "
                f"expected {2**self.residual_bits} for {self.value}"
            )
        elif codebook.dim != dim:
            raise ValueError(f"codebook has dim {codebook.dim}; expected {dim}")


LAYOUTS: dict[Codec, Layout] = {
    Codec.FLOAT32: Layout(bits=32),
    Codec.FLOAT16: Layout(bits=16),
    Codec.BFLOAT16: Layout(bits=16),
    Codec.FLOAT8: Layout(bits=8),
    Codec.INT8: Layout(bits=8, has_scales=True),
    # 16, so that the codes of a block of dimensions are whole bytes.
    Codec.RESIDUAL4: Layout(bits=4, has_scales=True, has_codebook=True, dim_multiple=16),
    Codec.RESIDUAL2: Layout(bits=2, has_scales=True, has_codebook=True, dim_multiple=16),
}
