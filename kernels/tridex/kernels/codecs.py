"""How each codec's numbers are computed: rounding to codes, decoding, and rounding queries to what is multiplied.

What multiplies codes must know their `CodeFormat`: a backend raises for one that it has no loop for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import TokenEmbeddings, on_host, tensor_over
from .codebook import Codebook
from .codec import Codec
from .columns import Columns, from_rows

_SMALLEST_SCALE = 2.0**-24
"""float16's smallest number: it keeps a token of zeros, or nearly so, from being divided by 0."""

_TOLERANCE = 2e-5
"""Of a similarity of unit vectors: float32 sums of products."""

_WHOLE = 1.5 * 2.0**23
"""Adding and subtracting it rounds a float32 of up to 2^22 to a whole number, half to even. torch.round wakes torch's
other threads for 2,048 numbers, and they spin for milliseconds on the cores that a search then wants."""


class CodeFormat(NamedTuple):
    """How a token's codes are read."""

    operand: torch.dtype
    """The type of the numbers that are multiplied, the query's and the token's: a code, or a centroid's number and the
    code's bucket weight."""
    bits: int
    """Of a code, one for each dimension."""
    has_codebook: bool = False
    """Whether a code is a residual's bucket."""
    unit: int = 1
    """A code of 1 stands for 1 / unit."""


class RoundedQueries(NamedTuple):
    """Query tokens as a codec multiplies them: a token's value is scale * numbers / unit."""

    numbers: torch.Tensor
    """[..., dim] of the codec's operand type."""
    scales: torch.Tensor | None
    """float32 [...], for the codecs with scales."""


@dataclass(frozen=True)
class CodecDescription(ABC):
    """How one codec's numbers are computed."""

    operand: torch.dtype
    """The type of the numbers that are multiplied, the query's and the token's."""
    peer_tolerance: float
    """How far another library's score of 32 query tokens may be from ours over the same codes: torch rounds each
    similarity to the type it multiplies in (bfloat16: 2^-9 of it), and other fp8 products scale by the largest number
    of all."""
    gpu_tolerance: float = _TOLERANCE
    """How far a similarity of unit vectors may be from the reference on a GPU."""
    unit: int = 1
    """A code, or a query's rounded number, of 1 stands for 1 / unit."""

    def tolerance(self, device: torch.device) -> float:
        """How far a similarity of unit vectors may be from the reference."""
        return self.gpu_tolerance if device.type == "cuda" else _TOLERANCE

    @abstractmethod
    def encode(self, embeddings: torch.Tensor, codebook: Codebook | None) -> tuple[Columns, torch.Tensor]:
        """Rounds finite float32 [tokens, dim], and says which numbers it can hold: bool, expands to [tokens, dim]."""

    @abstractmethod
    def decode(self, tokens: Columns, codebook: Codebook | None, dtype: torch.dtype) -> torch.Tensor:
        """The tokens' values [tokens, dim], computed in dtype."""

    @abstractmethod
    def round_queries(self, tokens: torch.Tensor) -> RoundedQueries:
        """Rounds query tokens to the same numbers on every device; waits for no device.

        tokens: float32 [..., dim], of about unit length (ScaledQueries).
        """


@dataclass(frozen=True)
class FloatCodec(CodecDescription):
    """Floating-point numbers, times `unit`."""

    limit: float = math.inf
    """The largest number that a code holds, for a type that has no infinity."""

    def encode(self, embeddings: torch.Tensor, _codebook: Codebook | None) -> tuple[Columns, torch.Tensor]:
        codes = self._times_unit(embeddings).to(self.operand)
        fits = embeddings.abs() <= self.limit if self.limit < math.inf else torch.isfinite(codes)
        return Columns(codes.view(torch.uint8)), fits

    def decode(self, tokens: Columns, _codebook: Codebook | None, dtype: torch.dtype) -> torch.Tensor:
        numbers = tokens.codes.view(self.operand).to(dtype)
        return numbers if self.unit == 1 else numbers / self.unit

    def round_queries(self, tokens: torch.Tensor) -> RoundedQueries:
        return RoundedQueries(self._times_unit(tokens).to(self.operand), None)

    def _times_unit(self, numbers: torch.Tensor) -> torch.Tensor:
        return numbers if self.unit == 1 else numbers * self.unit


class Int8Codec(CodecDescription):
    """Integers with one scale for each token, max |number| / 127; a query's token of zeros has the scale 1."""

    def encode(self, embeddings: torch.Tensor, _codebook: Codebook | None) -> tuple[Columns, torch.Tensor]:
        scales = (embeddings.abs().amax(dim=1, keepdim=True) / 127).half().clamp(min=_SMALLEST_SCALE)
        codes = (embeddings / scales.float()).round().clamp(-127, 127).to(torch.int8)
        return Columns(codes.view(torch.uint8), scales[:, 0]), torch.isfinite(scales)

    def decode(self, tokens: Columns, _codebook: Codebook | None, dtype: torch.dtype) -> torch.Tensor:
        assert tokens.scales is not None
        return tokens.codes.view(torch.int8).to(dtype) * tokens.scales[:, None].to(dtype)

    def round_queries(self, tokens: torch.Tensor) -> RoundedQueries:
        scales = tokens.abs().amax(dim=-1) / 127
        scales = torch.where(scales > 0, scales, 1.0)
        rounded = (tokens / scales[..., None] + _WHOLE) - _WHOLE
        return RoundedQueries(rounded.to(torch.int8), scales)


class ResidualCodec(Int8Codec):
    """A centroid and a residual's buckets, whose sums are integers: queries are rounded and multiplied as int8's."""

    def encode(self, embeddings: torch.Tensor, codebook: Codebook | None) -> tuple[Columns, torch.Tensor]:
        assert codebook is not None
        tokens = Columns(*codebook.encode(embeddings))
        assert tokens.scales is not None
        return tokens, torch.isfinite(tokens.scales)[:, None]

    def decode(self, tokens: Columns, codebook: Codebook | None, dtype: torch.dtype) -> torch.Tensor:
        assert codebook is not None and tokens.centroid_ids is not None and tokens.scales is not None
        return codebook.decode(tokens.codes, tokens.centroid_ids, dtype) * tokens.scales[:, None].to(dtype)


DESCRIPTIONS: dict[Codec, CodecDescription] = {
    Codec.FLOAT32: FloatCodec(torch.float32, peer_tolerance=2e-3),
    Codec.FLOAT16: FloatCodec(torch.float16, peer_tolerance=2e-2),
    Codec.BFLOAT16: FloatCodec(torch.bfloat16, peer_tolerance=0.15),
    # Tensor cores add float8's products to about 14 bits.
    Codec.FLOAT8: FloatCodec(torch.float8_e4m3fn, unit=256, limit=448 / 256, peer_tolerance=0.5, gpu_tolerance=2e-3),
    Codec.INT8: Int8Codec(torch.int8, peer_tolerance=0.05),
    Codec.RESIDUAL4: ResidualCodec(torch.int8, peer_tolerance=0.05),
    Codec.RESIDUAL2: ResidualCodec(torch.int8, peer_tolerance=0.05),
}
"""Of every codec."""


def code_format(codec: Codec) -> CodeFormat:
    """What a backend must know to read a codec's codes."""
    description, layout = DESCRIPTIONS[codec], codec.layout
    return CodeFormat(description.operand, layout.bits, layout.has_codebook, description.unit)


def precision_bits(codec: Codec) -> int:
    """Bits that a codec keeps of a number: its significand's, or an integer's without the sign."""
    operand = DESCRIPTIONS[codec].operand
    if operand.is_floating_point:
        return 1 - int(math.log2(torch.finfo(operand).eps))
    return min(codec.layout.bits, torch.iinfo(operand).bits - 1)


def split_rows(codec: Codec, rows: torch.Tensor) -> Columns:
    """Rows of the store, uint8 [tokens, bytes_per_token(dim)], as columns on the same device.

    Codecs without scales and ids share the rows' memory.
    """
    return from_rows(rows, codec.layout)


def encode(codec: Codec, embeddings: TokenEmbeddings, codebook: Codebook | None = None) -> NDArray[np.uint8]:
    """Rounds token embeddings to rows of the store, on the device that they are on.

    Args:
        codec: What they are to be stored as.
        embeddings: float32 [tokens, dim].
        codebook: The one of a codec with a codebook, None for the others; on any device.

    Returns:
        uint8 [tokens, bytes_per_token(dim)], which may share the embeddings' memory.

    Raises:
        ValueError: The embeddings have another dtype or shape, or a number that is not finite or not once it is rounded
            (float8 holds up to 1.75), or the codebook is not the codec's.
    """
    dtype = str(embeddings.dtype).removeprefix("torch.")
    if dtype != "float32" or embeddings.ndim != 2 or not embeddings.shape[1]:
        raise ValueError(
            f"embeddings has dtype {dtype} and shape {list(embeddings.shape)}; expected float32 [tokens, dim]"
        )
    codec.check_codebook(codebook, embeddings.shape[1])
    numbers = embeddings if isinstance(embeddings, torch.Tensor) else tensor_over(np.ascontiguousarray(embeddings))
    _check_range(codec, numbers, torch.isfinite(numbers))  # Before a residual is looked up: NaN is near no centroid.
    tokens, fits = DESCRIPTIONS[codec].encode(numbers, None if codebook is None else codebook.to(numbers.device))
    _check_range(codec, numbers, fits)
    return on_host(tokens.to_rows())


def _check_range(codec: Codec, embeddings: torch.Tensor, fits: torch.Tensor) -> None:
    if not bool(fits.all()):
        worst = float(embeddings[~fits.expand_as(embeddings)][0])
        raise ValueError(f"embeddings holds {worst}; expected finite numbers that {codec.value} can hold")


def decode(codec: Codec, rows: NDArray[np.uint8], codebook: Codebook | None = None) -> NDArray[np.float32]:
    """Rows of the store, uint8 [tokens, bytes_per_token(dim)], to embeddings float32 [tokens, dim].

    Raises ValueError for a codebook that is not the codec's.
    """
    tokens = split_rows(codec, tensor_over(np.ascontiguousarray(rows)))
    codec.check_codebook(codebook, tokens.codes.shape[1] * 8 // codec.layout.bits)
    embeddings: NDArray[np.float32] = decode_columns(codec, tokens, codebook, torch.float32).numpy()
    return embeddings


def decode_columns(codec: Codec, tokens: Columns, codebook: Codebook | None, dtype: torch.dtype) -> torch.Tensor:
    """The tokens' values [tokens, dim], computed in float32 or float64."""
    return DESCRIPTIONS[codec].decode(tokens, codebook, dtype)
