"""How the device code reads each codec's codes: numbers of a matrix product's operand, in registers.

The codes of a residual are packed: byte i of a token holds those of the dimensions i, i + bytes, i + 2 bytes and so on,
from the low bits up. `prmt` picks 4 bytes out of 8 by the 3-bit indices in 4 nibbles, so codes that lie in nibbles are
looked up 4 at a time, with no arithmetic on single bytes: 8 instructions for 4 dimensions of 4-bit codes, 3 for 2-bit
codes. Weight by weight, with comparisons, it would be one for each weight and dimension; so the interpreter does it,
which has no PTX. 3 more instructions add the centroid's 4 numbers: with 128 added to both and 128 taken from the sum,
every byte of a word's sum is from 1 to 255, and what carries from byte to byte on the way cancels out.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, RUF005, SIM108
from __future__ import annotations

import torch
import triton
import triton.language as tl

from tridex.kernels.codec import Codec
from tridex.kernels.codecs import CodeFormat, code_format

_CODES = {
    CodeFormat(torch.float32, 32): "float32",
    CodeFormat(torch.float16, 16): "float16",
    CodeFormat(torch.bfloat16, 16): "bfloat16",
    CodeFormat(torch.float8_e4m3fn, 8, unit=256): "float8_e4m3",
    CodeFormat(torch.int8, 8): "int8",
    CodeFormat(torch.int8, 4, has_codebook=True): "buckets_4_bits",
    CodeFormat(torch.int8, 2, has_codebook=True): "buckets_2_bits",
}
"""The kernels' constant CODES, which `load_operands` has a branch for."""


def reads(codec: Codec) -> bool:
    """Whether the kernels read the codec's codes."""
    return code_format(codec) in _CODES


def code_constants(codec: Codec) -> dict[str, object]:
    """The kernels' constants that say how codes are read. Raises ValueError for a codec whose codes are not.

    CODES_PER_BYTE: codes in a byte, 1 where a code has no byte to share.
    """
    if not reads(codec):
        known = ", ".join(codec.value for codec in Codec if reads(codec))
        raise ValueError(f"codec is {codec.value}; expected one that the GPU's kernels read: {known}")
    return {"CODES": _CODES[code_format(codec)], "CODES_PER_BYTE": max(8 // codec.layout.bits, 1)}


_SIGNS = 0x80808080
"""Added to or taken from the numbers of a word, it makes int8 into uint8 and back."""

_ADD = f"""xor.b32 number, CENTROIDS, {_SIGNS};
add.u32 number, number, WEIGHTS;
sub.u32 number, number, {_SIGNS};
xor.b32 SUMS, number, {_SIGNS};"""
"""The sums int8 of 4 centroids' numbers and 4 weights, 128 above the codebook's."""


def _named(assembly: str, **registers: str) -> str:
    """The PTX with registers in place of the names in capitals."""
    for name, register in registers.items():
        assembly = assembly.replace(name, register)
    return assembly


_WEIGHTS_4_BITS = """mov.b32 ones, 0xff00;
and.b32 index, CODES, 0x77777777;
shr.u32 bit, CODES, 3;
and.b32 bit, bit, 0x11111111;
prmt.b32 low, WORD_0, WORD_1, index;
prmt.b32 high, WORD_2, WORD_3, index;
prmt.b32 first, ones, ones, bit;
lop3.b32 first, first, high, low, 0xca;
shr.u32 index, index, 16;
shr.u32 bit, bit, 16;
prmt.b32 low, WORD_0, WORD_1, index;
prmt.b32 high, WORD_2, WORD_3, index;
prmt.b32 second, ones, ones, bit;
lop3.b32 second, second, high, low, 0xca;
prmt.b32 LOW, first, second, 0x6420;
prmt.b32 HIGH, first, second, 0x7531;"""
"""The weights of 4 bytes' low and high codes. WORD_0 to WORD_3: weights 0 to 3, 4 to 7, 8 to 11, 12 to 15. Indices lose
the 4th bit, which prmt takes for a sign; it then picks the upper weights: lop3 0xca is `first ? high : low`."""

_WEIGHTS_2_BITS = """and.b32 even, CODES, 0x33333333;
shr.u32 odd, CODES, 2;
and.b32 odd, odd, 0x33333333;
prmt.b32 first, WORD, WORD, even;
prmt.b32 third, WORD, WORD, odd;
shr.u32 even, even, 16;
shr.u32 odd, odd, 16;
prmt.b32 second, WORD, WORD, even;
prmt.b32 fourth, WORD, WORD, odd;
prmt.b32 WEIGHTS_0, first, second, 0x6420;
prmt.b32 WEIGHTS_1, third, fourth, 0x6420;
prmt.b32 WEIGHTS_2, first, second, 0x7531;
prmt.b32 WEIGHTS_3, third, fourth, 0x7531;"""
"""The weights of each of 4 bytes' codes, from the low bits up. WORD: the 4 weights."""


def decode_4_bits(apart: int) -> str:
    """PTX. $2: 4 bytes of codes. $3 and $4: the centroid's numbers for the low and for the high codes. From $5 on, so
    many registers apart: the 16 bucket weights by fours, 128 above the codebook's. $0 and $1: the numbers of the low
    and of the high codes."""
    words = {f"WORD_{i}": f"${5 + apart * i}" for i in range(4)}
    return f"""{{
.reg .b32 low, high, ones, index, bit, first, second, number;
{_named(_WEIGHTS_4_BITS, CODES="$2", LOW="low", HIGH="high", **words)}
{_named(_ADD, SUMS="$0", CENTROIDS="$3", WEIGHTS="low")}
{_named(_ADD, SUMS="$1", CENTROIDS="$4", WEIGHTS="high")}
}}"""


DECODE_4_BITS = decode_4_bits(apart=4)
"""Of bytes: an argument has a register for each of 4 elements, and bucket weights are the same for all of them."""

DECODE_2_BITS = f"""{{
.reg .b32 even, odd, first, second, third, fourth, fifth, sixth, number;
{
    _named(
        _WEIGHTS_2_BITS,
        CODES="$4",
        WORD="$9",
        WEIGHTS_0="even",
        WEIGHTS_1="odd",
        WEIGHTS_2="fifth",
        WEIGHTS_3="sixth",
    )
}
{_named(_ADD, SUMS="$0", CENTROIDS="$5", WEIGHTS="even")}
{_named(_ADD, SUMS="$1", CENTROIDS="$6", WEIGHTS="odd")}
{_named(_ADD, SUMS="$2", CENTROIDS="$7", WEIGHTS="fifth")}
{_named(_ADD, SUMS="$3", CENTROIDS="$8", WEIGHTS="sixth")}
}}"""
"""$4: 4 bytes of codes. $5 to $8: the centroid's numbers for each byte's codes, from the low bits up. $9: the 4 bucket
weights, 128 above the codebook's. $0 to $3: the numbers of each byte's codes."""

WEIGHTS_4_BITS = f"""{{
.reg .b32 low, high, ones, index, bit, first, second;
{_named(_WEIGHTS_4_BITS, CODES="$2", WORD_0="$3", WORD_1="$7", WORD_2="$11", WORD_3="$15", LOW="$0", HIGH="$1")}
}}"""
"""The bucket weights alone: $2, codes; $3, $7, $11 and $15, all weights, each three times more; $0 and $1, those of the
low and of the high codes."""

WEIGHTS_2_BITS = f"""{{
.reg .b32 even, odd, first, second, third, fourth;
{_named(_WEIGHTS_2_BITS, CODES="$4", WORD="$5", WEIGHTS_0="$0", WEIGHTS_1="$1", WEIGHTS_2="$2", WEIGHTS_3="$3")}
}}"""
"""The bucket weights alone: $4, codes; $5, the 4 weights; $0 to $3, those of each byte's codes."""

_DECODE_4_BITS = tl.constexpr(DECODE_4_BITS)
_DECODE_2_BITS = tl.constexpr(DECODE_2_BITS)
_OPERANDS_4_BITS = tl.constexpr("=&r,=&r" + ",r" * 19)
_OPERANDS_2_BITS = tl.constexpr("=&r,=&r,=&r,=&r" + ",r" * 9)
SIGNED = tl.constexpr(_SIGNS - 2**32)


@triton.jit
def _compared(codes, p_bucket_weights, SHIFT: tl.constexpr, BITS: tl.constexpr):
    code = (codes >> SHIFT) & (2**BITS - 1)
    weights = tl.zeros(codes.shape, tl.int8)
    for i in tl.static_range(2**BITS):
        weights = tl.where(code == i, tl.load(p_bucket_weights + i), weights)
    return weights


_INTERPRETED = tl.constexpr(not isinstance(_compared, triton.JITFunction))


@triton.jit
def load_rows(p_numbers, rows, first, STRIDE: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """[rows, BLOCK]: the numbers from column `first` on, 0 from column WIDTH on."""
    columns = first + tl.arange(0, BLOCK)
    pointers = p_numbers + rows[:, None] * STRIDE + columns[None, :]
    if WIDTH % BLOCK == 0:
        numbers = tl.load(pointers)
    else:
        numbers = tl.load(pointers, mask=(columns < WIDTH)[None, :], other=0.0)
    return numbers


@triton.jit
def _load_centroids(p_centroids, ids, first, PARTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The centroids' numbers int8 [tokens, BLOCK] for each code of a byte, from column `first` on."""
    columns = first + tl.arange(0, BLOCK)
    pointers = p_centroids + ids[:, None] * (PARTS * WIDTH) + columns[None, :]
    parts = ()
    for part in tl.static_range(PARTS):
        if WIDTH % BLOCK == 0:
            numbers = tl.load(pointers + part * WIDTH)
        else:
            numbers = tl.load(pointers + part * WIDTH, mask=(columns < WIDTH)[None, :], other=0)
        parts = parts + (numbers,)  # type: ignore[assignment]
    return parts


@triton.jit
def _decode_4_bits(codes, low, high, p_bucket_weights):
    """The numbers int8 [tokens, bytes] of both halves of the dimensions; codes uint8 and, of the centroids, int8."""
    if _INTERPRETED:
        return low + _compared(codes, p_bucket_weights, 0, 4), high + _compared(codes, p_bucket_weights, 4, 4)
    p_words = p_bucket_weights.to(tl.pointer_type(tl.int32))
    return tl.inline_asm_elementwise(
        _DECODE_4_BITS,
        _OPERANDS_4_BITS,
        [
            codes,
            low,
            high,
            tl.load(p_words) ^ SIGNED,
            tl.load(p_words + 1) ^ SIGNED,
            tl.load(p_words + 2) ^ SIGNED,
            tl.load(p_words + 3) ^ SIGNED,
        ],
        dtype=(tl.int8, tl.int8),
        is_pure=True,
        pack=4,
    )


@triton.jit
def _decode_2_bits(codes, first, second, third, fourth, p_bucket_weights):
    """The numbers int8 [tokens, bytes] of the 4 quarters of the dimensions; codes uint8 and, of the centroids, int8."""
    if _INTERPRETED:
        return (
            first + _compared(codes, p_bucket_weights, 0, 2),
            second + _compared(codes, p_bucket_weights, 2, 2),
            third + _compared(codes, p_bucket_weights, 4, 2),
            fourth + _compared(codes, p_bucket_weights, 6, 2),
        )
    return tl.inline_asm_elementwise(
        _DECODE_2_BITS,
        _OPERANDS_2_BITS,
        [codes, first, second, third, fourth, tl.load(p_bucket_weights.to(tl.pointer_type(tl.int32))) ^ SIGNED],
        dtype=(tl.int8, tl.int8, tl.int8, tl.int8),
        is_pure=True,
        pack=4,
    )


@triton.jit
def load_operands(
    p_codes,
    tokens,
    first,
    p_centroids,
    centroids,
    p_bucket_weights,
    CODES: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What is multiplied of codes [tokens, WIDTH] from column `first` on: [tokens, BLOCK] for each code of a byte.

    centroids: the tokens' centroids int64 [tokens], for the codes that are a residual's.
    """
    codes = load_rows(p_codes, tokens, first, WIDTH, WIDTH, BLOCK)
    if CODES == "float32" or CODES == "float16" or CODES == "bfloat16" or CODES == "int8":
        operands = (codes,)
    elif CODES == "float8_e4m3":
        if codes.dtype == tl.uint8:
            # Before sm_89. An e4m3 number is a float16 with 3 bits of fraction and another bias, which is what codes /
            # 256 undoes.
            halves = ((codes & 0x7F).to(tl.int16) << 7) | ((codes & 0x80).to(tl.int16) << 8)
            codes = halves.to(tl.float16, bitcast=True)
        operands = (codes,)
    elif CODES == "buckets_4_bits":
        low, high = _load_centroids(p_centroids, centroids, first, 2, WIDTH, BLOCK)
        operands = _decode_4_bits(codes, low, high, p_bucket_weights)
    elif CODES == "buckets_2_bits":
        parts = _load_centroids(p_centroids, centroids, first, 4, WIDTH, BLOCK)
        operands = _decode_2_bits(codes, parts[0], parts[1], parts[2], parts[3], p_bucket_weights)
    else:
        tl.static_assert(False, "CODES is none of those that code_constants returns")
    return operands
