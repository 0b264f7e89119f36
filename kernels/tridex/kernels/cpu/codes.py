"""What the CPU makes of each codec's codes: words of 32 bits that the register tiles multiply.

    float16                     to float32
    bfloat16, float8            to pairs of bfloat16, which holds float8's numbers; else to float32
    int8, residual codes        to bytes 128 above the number (a residual's: centroid + bucket weight), four to a word:
                                the instruction multiplies unsigned bytes by signed ones, and starts from
                                -128 * sum(query). Else to float32.

float32, and bfloat16 where the CPU multiplies it, are read where they lie. The integers' sums are whole numbers below
2^24 for any dim up to 1,040: float32 has the same bits as the instruction.

Cycles for a token of 128 numbers on an EPYC with AVX-512, where the product with 16 query tokens takes 47 to 128:
float16 to float32 27, float8 to bfloat16 42, int8 8.
"""

# mypy: allow-untyped-calls
# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numpy.typing import NDArray

from tridex.kernels.codec import Codec
from tridex.kernels.codecs import CodeFormat, code_format

from .compiled import compiled
from .conversion import BYTE, FLOAT, HALF, WORD, Chunk, conversion, decode
from .register_tile import FEATURES, FLOATS, HAS_PAIRS, HAS_QUADS, PAIRS, QUADS

_HAS_HALVES = "+f16c" in FEATURES

_AHEAD = 8
"""Tokens that a residual's centroid is asked for ahead."""


def _float_of(chunk: Chunk, numbers: Any, bits: int) -> Any:
    """A floating-point number of sign, exponent and fraction in `bits` bits, widened to i32, as float32 but for its
    bias: the sign goes to the top, and the exponent and fraction into float32's places."""
    build = chunk.build
    exponents = {16: 5, 8: 4}[bits]
    magnitude = build.and_(numbers, chunk.constant(WORD, 2 ** (bits - 1) - 1))
    sign = build.shl(build.and_(numbers, chunk.constant(WORD, 2 ** (bits - 1))), chunk.constant(WORD, 32 - bits))
    shifted = build.shl(magnitude, chunk.constant(WORD, 23 - (bits - 1 - exponents)))
    return build.bitcast(build.or_(sign, shifted), chunk.of(FLOAT))


def _half_to_float(chunk: Chunk, halves: Any) -> Any:
    build = chunk.build
    if _HAS_HALVES:
        return build.fpext(build.bitcast(halves, chunk.of(ir.HalfType())), chunk.of(FLOAT))
    unbiased = _float_of(chunk, build.zext(halves, chunk.of(WORD)), 16)
    return build.fmul(unbiased, chunk.constant(FLOAT, 2.0 ** (127 - 15)))


def _float8_to_float(chunk: Chunk, codes: Any) -> Any:
    """code / 256."""
    unbiased = _float_of(chunk, chunk.build.zext(codes, chunk.of(WORD)), 8)
    return chunk.build.fmul(unbiased, chunk.constant(FLOAT, 2.0 ** (127 - 7 - 8)))


def _float8_to_bfloat16(chunk: Chunk, codes: Any) -> Any:
    """code / 256; its 3 bits of fraction are no more than bfloat16's 7, so cutting float32 short changes nothing."""
    bits = chunk.build.bitcast(_float8_to_float(chunk, codes), chunk.of(WORD))
    return chunk.build.trunc(chunk.build.lshr(bits, chunk.constant(WORD, 16)), chunk.of(HALF))


def _bfloat16_to_float(chunk: Chunk, numbers: Any) -> Any:
    bits = chunk.build.shl(chunk.build.zext(numbers, chunk.of(WORD)), chunk.constant(WORD, 16))
    return chunk.build.bitcast(bits, chunk.of(FLOAT))


def _signed_to_unsigned(chunk: Chunk, integers: Any) -> Any:
    """The integer + 128."""
    return chunk.build.xor(integers, chunk.constant(BYTE, 128))


def _signed_to_float(chunk: Chunk, integers: Any) -> Any:
    return chunk.build.sitofp(chunk.build.sext(integers, chunk.of(WORD)), chunk.of(FLOAT))


def _unsigned_to_float(chunk: Chunk, integers: Any) -> Any:
    """The integer - 128."""
    return _signed_to_float(chunk, _signed_to_unsigned(chunk, integers))


def _same(_: Chunk, numbers: Any) -> Any:
    return numbers


halves_to_floats = conversion(HALF, FLOAT, _half_to_float)
float8_to_floats = conversion(BYTE, FLOAT, _float8_to_float)
float8_to_pairs = conversion(BYTE, HALF, _float8_to_bfloat16)
bfloat16_to_floats = conversion(HALF, FLOAT, _bfloat16_to_float)
bfloat16_to_pairs = conversion(HALF, HALF, _same)
integers_to_quads = conversion(BYTE, BYTE, _signed_to_unsigned)
integers_to_floats = conversion(BYTE, FLOAT, _signed_to_float)
quads_to_floats = conversion(BYTE, FLOAT, _unsigned_to_float)
decode_4_bits, decode_2_bits = decode(4), decode(2)

(
    IN_PLACE,
    FLOAT16_TO_FLOATS,
    BFLOAT16_TO_FLOATS,
    BFLOAT16_TO_PAIRS,
    FLOAT8_TO_FLOATS,
    FLOAT8_TO_PAIRS,
    INT8_TO_FLOATS,
    INT8_TO_QUADS,
    BUCKETS_4_BITS_TO_FLOATS,
    BUCKETS_4_BITS_TO_QUADS,
    BUCKETS_2_BITS_TO_FLOATS,
    BUCKETS_2_BITS_TO_QUADS,
) = range(12)
"""Loaders: what `load_codes` does, but for IN_PLACE."""

_LOADERS = {
    CodeFormat(torch.float32, 32): (IN_PLACE, FLOATS),
    CodeFormat(torch.float16, 16): (FLOAT16_TO_FLOATS, FLOATS),
    CodeFormat(torch.bfloat16, 16): (BFLOAT16_TO_PAIRS, PAIRS) if HAS_PAIRS else (BFLOAT16_TO_FLOATS, FLOATS),
    CodeFormat(torch.float8_e4m3fn, 8, unit=256): (
        (FLOAT8_TO_PAIRS, PAIRS) if HAS_PAIRS else (FLOAT8_TO_FLOATS, FLOATS)
    ),
    CodeFormat(torch.int8, 8): (INT8_TO_QUADS, QUADS) if HAS_QUADS else (INT8_TO_FLOATS, FLOATS),
    CodeFormat(torch.int8, 4, has_codebook=True): (
        (BUCKETS_4_BITS_TO_QUADS, QUADS) if HAS_QUADS else (BUCKETS_4_BITS_TO_FLOATS, FLOATS)
    ),
    CodeFormat(torch.int8, 2, has_codebook=True): (
        (BUCKETS_2_BITS_TO_QUADS, QUADS) if HAS_QUADS else (BUCKETS_2_BITS_TO_FLOATS, FLOATS)
    ),
}


class Reading(NamedTuple):
    """How a segment's tokens are read; the compiled loops take it as it is."""

    loader: int
    words: int
    """FLOATS, PAIRS or QUADS."""
    dim: int


def reads(codec: Codec) -> bool:
    """Whether the codec's codes have a loader."""
    return code_format(codec) in _LOADERS


def reading_of(codec: Codec, dim: int) -> Reading:
    """How this CPU reads tokens. Raises ValueError for a codec whose codes have no loader."""
    if not reads(codec):
        known = ", ".join(codec.value for codec in Codec if reads(codec))
        raise ValueError(f"codec is {codec.value}; expected one that the CPU's loops read: {known}")
    loader, words = _LOADERS[code_format(codec)]
    if loader == BFLOAT16_TO_PAIRS and dim % 2 == 0:  # Whole words of what is multiplied.
        loader = IN_PLACE
    return Reading(loader, words, dim)


@compiled
def load_codes(
    reading: Reading,
    codes: NDArray[np.uint8],
    centroids: NDArray[np.uint8],
    ids: NDArray[np.uint16],
    weights: NDArray[np.uint8],
    first: int,
    count: int,
    out: NDArray[np.uint8],
    at: int,
    room: NDArray[np.uint8],
) -> None:
    """Converts `count` tokens' codes [tokens, bytes], from `first` on, to the bytes of words out[at:].

    centroids, ids: the residual codecs', int8's bits [centroids, dim] and [tokens]; weights: [16], 128 above the bucket
    weights; room: [1, 4 W], for one token's bytes.
    """
    loader, dim, last = reading.loader, reading.dim, len(ids) - 1
    if loader == FLOAT16_TO_FLOATS:
        for j in range(count):
            halves_to_floats(codes, first + j, out, at + j, dim)
    elif loader == BFLOAT16_TO_FLOATS:
        for j in range(count):
            bfloat16_to_floats(codes, first + j, out, at + j, dim)
    elif loader == BFLOAT16_TO_PAIRS:
        for j in range(count):
            bfloat16_to_pairs(codes, first + j, out, at + j, dim)
    elif loader == FLOAT8_TO_FLOATS:
        for j in range(count):
            float8_to_floats(codes, first + j, out, at + j, dim)
    elif loader == FLOAT8_TO_PAIRS:
        for j in range(count):
            float8_to_pairs(codes, first + j, out, at + j, dim)
    elif loader == INT8_TO_FLOATS:
        for j in range(count):
            integers_to_floats(codes, first + j, out, at + j, dim)
    elif loader == INT8_TO_QUADS:
        for j in range(count):
            integers_to_quads(codes, first + j, out, at + j, dim)
    elif loader == BUCKETS_4_BITS_TO_FLOATS:
        for j in range(count):
            decode_4_bits(
                codes, first + j, centroids, ids[first + j], ids[min(first + j + _AHEAD, last)], weights, room, 0
            )
            quads_to_floats(room, 0, out, at + j, dim)
    elif loader == BUCKETS_4_BITS_TO_QUADS:
        for j in range(count):
            decode_4_bits(
                codes, first + j, centroids, ids[first + j], ids[min(first + j + _AHEAD, last)], weights, out, at + j
            )
    elif loader == BUCKETS_2_BITS_TO_FLOATS:
        for j in range(count):
            decode_2_bits(
                codes, first + j, centroids, ids[first + j], ids[min(first + j + _AHEAD, last)], weights, room, 0
            )
            quads_to_floats(room, 0, out, at + j, dim)
    elif loader == BUCKETS_2_BITS_TO_QUADS:
        for j in range(count):
            decode_2_bits(
                codes, first + j, centroids, ids[first + j], ids[min(first + j + _AHEAD, last)], weights, out, at + j
            )
    else:
        raise ValueError("reading.loader is none of the loaders")
