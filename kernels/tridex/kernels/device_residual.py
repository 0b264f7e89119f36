"""Residual codes to int8 levels, in registers: device code.

Byte i of a token holds the codes of the dimensions i, i + bytes, i + 2 bytes and so on, from the low bits up. `prmt`
picks 4 bytes out of 8 by the 3-bit indices in 4 nibbles, so codes that lie in nibbles are looked up 4 at a time, with
no arithmetic on single bytes: 8 instructions for 4 dimensions of residual4, 3 for residual2. Level by level, with
comparisons, it would be one for each level and dimension; so the interpreter does it, which has no PTX.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

LOOK_UP_4_BITS = """{
.reg .b32 low, high, ones, index, bit, first, second;
mov.b32 ones, 0xff00;
and.b32 index, $2, 0x77777777;
shr.u32 bit, $2, 3;
and.b32 bit, bit, 0x11111111;
prmt.b32 low, $3, $7, index;
prmt.b32 high, $11, $15, index;
prmt.b32 first, ones, ones, bit;
lop3.b32 first, first, high, low, 0xca;
shr.u32 index, index, 16;
shr.u32 bit, bit, 16;
prmt.b32 low, $3, $7, index;
prmt.b32 high, $11, $15, index;
prmt.b32 second, ones, ones, bit;
lop3.b32 second, second, high, low, 0xca;
prmt.b32 $0, first, second, 0x6420;
prmt.b32 $1, first, second, 0x7531;
}"""
"""$2: 4 bytes of codes. $3, $7, $11 and $15: levels 0 to 3, 4 to 7, 8 to 11, 12 to 15; those between repeat them, once
for each of the 4 elements. $0 and $1: the levels of the low and of the high nibbles. Indices lose the 4th bit, which
prmt takes for a sign; it then picks the upper levels: lop3 0xca is `first ? high : low`."""

LOOK_UP_2_BITS = """{
.reg .b32 even, odd, first, second, third, fourth;
and.b32 even, $4, 0x33333333;
shr.u32 odd, $4, 2;
and.b32 odd, odd, 0x33333333;
prmt.b32 first, $5, $5, even;
prmt.b32 third, $5, $5, odd;
shr.u32 even, even, 16;
shr.u32 odd, odd, 16;
prmt.b32 second, $5, $5, even;
prmt.b32 fourth, $5, $5, odd;
prmt.b32 $0, first, second, 0x6420;
prmt.b32 $1, third, fourth, 0x6420;
prmt.b32 $2, first, second, 0x7531;
prmt.b32 $3, third, fourth, 0x7531;
}"""
"""$4: 4 bytes of codes. $5: the 4 levels. $0 to $3: the levels of each byte's codes, from the low bits up."""

_LOOK_UP_4_BITS = tl.constexpr(LOOK_UP_4_BITS)
_LOOK_UP_2_BITS = tl.constexpr(LOOK_UP_2_BITS)
_OPERANDS_4_BITS = tl.constexpr("=&r,=&r" + ",r" * 17)
_OPERANDS_2_BITS = tl.constexpr("=&r,=&r,=&r,=&r" + ",r" * 5)


@triton.jit
def _compared(codes, p_levels, SHIFT: tl.constexpr, BITS: tl.constexpr):
    code = (codes >> SHIFT) & (2**BITS - 1)
    levels = tl.zeros(codes.shape, tl.int8)
    for i in tl.static_range(2**BITS):
        levels = tl.where(code == i, tl.load(p_levels + i), levels)
    return levels


_INTERPRETED = tl.constexpr(not isinstance(_compared, triton.JITFunction))


@triton.jit
def levels_4_bits(codes, p_levels):
    """The levels int8 [tokens, bytes] of both halves of the dimensions; codes uint8 [tokens, bytes]."""
    if _INTERPRETED:
        return _compared(codes, p_levels, 0, 4), _compared(codes, p_levels, 4, 4)
    p_words = p_levels.to(tl.pointer_type(tl.int32))
    return tl.inline_asm_elementwise(
        _LOOK_UP_4_BITS,
        _OPERANDS_4_BITS,
        [codes, tl.load(p_words), tl.load(p_words + 1), tl.load(p_words + 2), tl.load(p_words + 3)],
        dtype=(tl.int8, tl.int8),
        is_pure=True,
        pack=4,
    )


@triton.jit
def levels_2_bits(codes, p_levels):
    """The levels int8 [tokens, bytes] of the 4 quarters of the dimensions; codes uint8 [tokens, bytes]."""
    if _INTERPRETED:
        return (
            _compared(codes, p_levels, 0, 2),
            _compared(codes, p_levels, 2, 2),
            _compared(codes, p_levels, 4, 2),
            _compared(codes, p_levels, 6, 2),
        )
    return tl.inline_asm_elementwise(
        _LOOK_UP_2_BITS,
        _OPERANDS_2_BITS,
        [codes, tl.load(p_levels.to(tl.pointer_type(tl.int32)))],
        dtype=(tl.int8, tl.int8, tl.int8, tl.int8),
        is_pure=True,
        pack=4,
    )
