"""Codecs: how a document's token embeddings are kept, in the store as rows of bytes and in a segment as planes.

    codec         a token's value                                 bytes a token at 128 dimensions
    float32       the number                                      512
    float16       the number                                      256
    bfloat16      the number                                      256
    float8_e4m3   code / 256                                      128
    int8          scale * code                                    130: 128 codes, scale
    residual4     scale * (centroid + step * levels[code])         68:  64 codes, centroid's id, scale
    residual2     scale * (centroid + step * levels[code])         36:  32 codes, centroid's id, scale

A row of the store holds the codes, then the id (uint16), then the scale (float16), all little-endian. float8's 256 puts
unit vectors into e4m3's normal range. The residual codecs are ColBERTv2's (Santhanam et al. 2022, section 3.3).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import tensor_over

if TYPE_CHECKING:
    from .codebook import Codebook

FLOAT8_UNIT = 256
"""What a float8 code of 1 stands for is 1 / FLOAT8_UNIT."""

_FLOAT8_LIMIT = 448 / FLOAT8_UNIT
_SMALLEST_SCALE = 2.0**-24
"""float16's smallest number: it keeps a token of zeros, or nearly so, from being divided by 0."""

_WHOLE = 1.5 * 2.0**23
"""Adding and subtracting it rounds a float32 of up to 2^22 to a whole number, half to even. torch.round wakes torch's
other threads for 2,048 numbers, and they spin for milliseconds on the cores that a search then wants."""


class Planes(NamedTuple):
    """Tokens as a segment holds them: each plane is contiguous, and so aligned."""

    codes: torch.Tensor
    """uint8 [tokens, code_bytes(dim)]"""
    scales: torch.Tensor | None
    """float16 [tokens] for int8 and the residual codecs."""
    centroid_ids: torch.Tensor | None
    """int16 [tokens], the bits of a uint16, for the residual codecs."""


class RoundedQueries(NamedTuple):
    """Query tokens as a codec multiplies them."""

    numbers: torch.Tensor
    """[..., dim] of the codec's dtype; float8: of FLOAT8_UNIT * query."""
    scales: torch.Tensor | None
    """float32 [...] for int8 and the residual codecs: a token's value is scale * numbers."""


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
    def dtype(self) -> torch.dtype:
        """The type of the numbers that are multiplied with a query's: a code's, or a residual's level's."""
        return {
            "float32": torch.float32,
            "float16": torch.float16,
            "bfloat16": torch.bfloat16,
            "float8_e4m3": torch.float8_e4m3fn,
        }.get(self.value, torch.int8)

    @property
    def residual_bits(self) -> int:
        """Bits of a residual's code in one dimension; 0 for the codecs without a codebook."""
        return {"residual4": 4, "residual2": 2}.get(self.value, 0)

    @property
    def has_scales(self) -> bool:
        """Whether a token has a scale."""
        return self.dtype == torch.int8

    def fits(self, dim: int) -> bool:
        """Whether the codec can cut tokens of `dim` dimensions into bytes."""
        return not self.residual_bits or dim % 16 == 0

    def code_bytes(self, dim: int) -> int:
        """Bytes of one token's codes. Raises ValueError for a dim that does not fit."""
        if not self.fits(dim):
            raise ValueError(f"dim is {dim}; expected a multiple of 16 for {self.value}")
        return dim * (self.residual_bits or 8 * self.dtype.itemsize) // 8

    def bytes_per_token(self, dim: int) -> int:
        """Bytes of one token embedding of `dim` numbers in the store."""
        return self.code_bytes(dim) + self._tail_bytes

    @property
    def _tail_bytes(self) -> int:
        return 2 * self.has_scales + 2 * bool(self.residual_bits)

    def split(self, rows: torch.Tensor) -> Planes:
        """Rows of the store, uint8 [tokens, bytes_per_token(dim)], as planes on the same device.

        Codecs without scales and ids share the rows' memory.
        """
        if not self._tail_bytes:
            return Planes(rows, None, None)
        width = rows.shape[1] - self._tail_bytes
        tail = _copied(rows[:, width:]).view(torch.int16)
        ids = _copied(tail[:, 0]) if self.residual_bits else None
        return Planes(_copied(rows[:, :width]), _copied(tail[:, -1]).view(torch.float16), ids)

    def encode(self, embeddings: NDArray[np.float32], codebook: Codebook | None = None) -> NDArray[np.uint8]:
        """Rounds token embeddings to rows of the store.

        embeddings: float32 [tokens, dim]; codebook: the residual codecs', None for the others.
        Returns uint8 [tokens, bytes_per_token(dim)], which may share the embeddings' memory.
        Raises ValueError for another dtype or shape, for a number that is not finite or not once it is rounded (float8
        holds up to 1.75), and for a codebook that is not the codec's.
        """
        if embeddings.dtype != np.float32 or embeddings.ndim != 2 or not embeddings.shape[1]:
            raise ValueError(
                f"embeddings has dtype {embeddings.dtype} and shape {list(embeddings.shape)}; "
                "expected float32 [tokens, dim]"
            )
        self.check_codebook(codebook, embeddings.shape[1])
        numbers = tensor_over(np.ascontiguousarray(embeddings))
        self._check_range(numbers, torch.isfinite(numbers))  # Before a residual is looked up: NaN is near no centroid.
        if codebook is not None:
            codes, ids, scales = codebook.encode(numbers)
            planes = [codes, ids.view(torch.uint8), scales.view(torch.uint8)]
            self._check_range(numbers, torch.isfinite(scales).expand_as(numbers))
        elif self is Codec.INT8:
            scales = (numbers.abs().amax(dim=1, keepdim=True) / 127).half().clamp(min=_SMALLEST_SCALE)
            planes = [(numbers / scales.float()).round().clamp(-127, 127).to(torch.int8).view(torch.uint8)]
            planes.append(scales.view(torch.uint8))
            self._check_range(numbers, torch.isfinite(scales).expand_as(numbers))
        elif self is Codec.FLOAT8:
            self._check_range(numbers, numbers.abs() <= _FLOAT8_LIMIT)
            planes = [(numbers * FLOAT8_UNIT).to(self.dtype).view(torch.uint8)]
        else:
            rounded = numbers.to(self.dtype)
            self._check_range(numbers, torch.isfinite(rounded))
            planes = [rounded.view(torch.uint8)]
        rows: NDArray[np.uint8] = (planes[0] if len(planes) == 1 else torch.cat(planes, dim=1)).numpy()
        return rows

    def _check_range(self, embeddings: torch.Tensor, fits: torch.Tensor) -> None:
        if not bool(fits.all()):
            worst = float(embeddings[~fits][0])
            raise ValueError(f"embeddings holds {worst}; expected finite numbers that {self.value} can hold")

    def decode(self, rows: NDArray[np.uint8], codebook: Codebook | None = None) -> NDArray[np.float32]:
        """Rows of the store, uint8 [tokens, bytes_per_token(dim)], to embeddings float32 [tokens, dim].

        Raises ValueError for a codebook that is not the codec's.
        """
        planes = self.split(tensor_over(np.ascontiguousarray(rows)))
        self.check_codebook(codebook, planes.codes.shape[1] * 8 // (self.residual_bits or 8 * self.dtype.itemsize))
        embeddings: NDArray[np.float32] = self.decode_planes(planes, codebook, torch.float32).numpy()
        return embeddings

    def decode_planes(self, planes: Planes, codebook: Codebook | None, dtype: torch.dtype) -> torch.Tensor:
        """The tokens' values [tokens, dim], computed in float32 or float64."""
        if codebook is not None:
            assert planes.centroid_ids is not None
            numbers = codebook.decode(planes.codes, planes.centroid_ids, dtype)
        else:
            numbers = planes.codes.view(self.dtype).to(dtype)
        if self is Codec.FLOAT8:
            numbers = numbers / FLOAT8_UNIT
        return numbers if planes.scales is None else numbers * planes.scales[:, None].to(dtype)

    def check_codebook(self, codebook: Codebook | None, dim: int) -> None:
        """Raises ValueError where the codebook is missing, not wanted, or made for another codec or dim."""
        if codebook is None:
            if self.residual_bits:
                raise ValueError(f"codebook is None; expected the codebook of {self.value} (train_codebook)")
        elif not self.residual_bits:
            raise ValueError(f"codebook is given; expected None for {self.value}")
        elif len(codebook.levels) != 2**self.residual_bits:
            raise ValueError(
                f"codebook has {len(codebook.levels)} levels; expected {2**self.residual_bits} for {self.value}"
            )
        elif codebook.dim != dim:
            raise ValueError(f"codebook has dim {codebook.dim}; expected {dim}")


def _copied(plane: torch.Tensor) -> torch.Tensor:
    """In memory of its own: the slice of a single row is contiguous as it is, wherever it starts."""
    return plane.clone(memory_format=torch.contiguous_format)


def round_queries(tokens: torch.Tensor, codec: Codec) -> RoundedQueries:
    """Rounds query tokens to what the codec multiplies, the same numbers on every device; waits for no device.

    tokens: float32 [..., dim], of about unit length (ScaledQueries). int8 and the residual codecs have one scale a
    token, max |number| / 127, or 1 for a token of zeros. (The residual codecs multiply centroids by the token in
    float16.)
    """
    if codec is Codec.FLOAT8:
        return RoundedQueries((tokens * FLOAT8_UNIT).to(codec.dtype), None)
    if not codec.has_scales:
        return RoundedQueries(tokens.to(codec.dtype), None)
    scales = tokens.abs().amax(dim=-1) / 127
    scales = torch.where(scales > 0, scales, 1.0)
    rounded = (tokens / scales[..., None] + _WHOLE) - _WHOLE
    return RoundedQueries(rounded.to(codec.dtype), scales)
