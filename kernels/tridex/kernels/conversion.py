"""Codes to the words that the tiles multiply, as LLVM vector code: numba's own loops took 1.4 to 9 times as long.

Cycles for a token of 128 numbers on an EPYC with AVX-512, where the product with 16 query tokens takes 47 to 128:
float16 to float32 27, float8 to bfloat16 42, int8 8, residual codes 36.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .vector_tile import FEATURES

_BYTE, _HALF, _WORD, _INDEX = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOAT = ir.FloatType()

_CHUNK = 16
"""Numbers converted at a time."""

_HAS_HALVES = "+f16c" in FEATURES
HAS_SHUFFLE = "+ssse3" in FEATURES
"""Whether an instruction looks SHUFFLED_BYTES bytes up in a table of 16."""

SHUFFLED_BYTES = 16
"""Bytes of residual codes looked up at a time, and the fewest that are."""


class _Chunk:
    """A builder for one number or for a vector of them: types and constants of its length."""

    def __init__(self, build: Any, length: int) -> None:
        self.build = build
        self._length = length

    def of(self, number: Any) -> Any:
        """The type of the chunk."""
        return number if self._length == 1 else ir.VectorType(number, self._length)

    def constant(self, number: Any, value: float) -> Any:
        """The value in all lanes."""
        return ir.Constant(self.of(number), value if self._length == 1 else [value] * self._length)


_Convert = Callable[[_Chunk, Any], Any]


def _float_of(chunk: _Chunk, numbers: Any, bits: int) -> Any:
    """A floating-point number of sign, exponent and fraction in `bits` bits, widened to i32, as float32 but for its
    bias: the sign goes to the top, and the exponent and fraction into float32's places."""
    build = chunk.build
    exponents = {16: 5, 8: 4}[bits]
    magnitude = build.and_(numbers, chunk.constant(_WORD, 2 ** (bits - 1) - 1))
    sign = build.shl(build.and_(numbers, chunk.constant(_WORD, 2 ** (bits - 1))), chunk.constant(_WORD, 32 - bits))
    shifted = build.shl(magnitude, chunk.constant(_WORD, 23 - (bits - 1 - exponents)))
    return build.bitcast(build.or_(sign, shifted), chunk.of(_FLOAT))


def _half_to_float(chunk: _Chunk, halves: Any) -> Any:
    build = chunk.build
    if _HAS_HALVES:
        return build.fpext(build.bitcast(halves, chunk.of(ir.HalfType())), chunk.of(_FLOAT))
    unbiased = _float_of(chunk, build.zext(halves, chunk.of(_WORD)), 16)
    return build.fmul(unbiased, chunk.constant(_FLOAT, 2.0 ** (127 - 15)))


def _float8_to_float(chunk: _Chunk, codes: Any) -> Any:
    """code / 256."""
    unbiased = _float_of(chunk, chunk.build.zext(codes, chunk.of(_WORD)), 8)
    return chunk.build.fmul(unbiased, chunk.constant(_FLOAT, 2.0 ** (127 - 7 - 8)))


def _float8_to_bfloat16(chunk: _Chunk, codes: Any) -> Any:
    """code / 256; its 3 bits of fraction are no more than bfloat16's 7, so cutting float32 short changes nothing."""
    bits = chunk.build.bitcast(_float8_to_float(chunk, codes), chunk.of(_WORD))
    return chunk.build.trunc(chunk.build.lshr(bits, chunk.constant(_WORD, 16)), chunk.of(_HALF))


def _bfloat16_to_float(chunk: _Chunk, numbers: Any) -> Any:
    bits = chunk.build.shl(chunk.build.zext(numbers, chunk.of(_WORD)), chunk.constant(_WORD, 16))
    return chunk.build.bitcast(bits, chunk.of(_FLOAT))


def _signed_to_unsigned(chunk: _Chunk, integers: Any) -> Any:
    """The integer + 128."""
    return chunk.build.xor(integers, chunk.constant(_BYTE, 128))


def _signed_to_float(chunk: _Chunk, integers: Any) -> Any:
    return chunk.build.sitofp(chunk.build.sext(integers, chunk.of(_WORD)), chunk.of(_FLOAT))


def _unsigned_to_float(chunk: _Chunk, integers: Any) -> Any:
    """The integer - 128."""
    return _signed_to_float(chunk, _signed_to_unsigned(chunk, integers))


def _same(_: _Chunk, numbers: Any) -> Any:
    return numbers


def _conversion(source: Any, target: Any, convert: _Convert) -> Callable[..., None]:
    """A function of compiled code: codes uint8 [n, bytes], row, out [m, W] of words, place, count -> None

    converts the first `count` numbers of codes[row] to the start of out[place].
    """

    def conversion(_: Any, codes: Any, _row: Any, out: Any, _place: Any, _count: Any) -> Any:
        def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            _, row, _, place, count = arguments
            p_codes = _row_pointer(context, build, signature.args[0], arguments[0], row, source)
            p_out = _row_pointer(context, build, signature.args[2], arguments[2], place, target)

            def step(index: Any, length: int) -> None:
                chunk = _Chunk(build, length)
                numbers = build.load(build.bitcast(build.gep(p_codes, [index]), chunk.of(source).as_pointer()), align=1)
                p_target = build.bitcast(build.gep(p_out, [index]), chunk.of(target).as_pointer())
                build.store(convert(chunk, numbers), p_target, align=1)

            whole = build.and_(count, _INDEX(-_CHUNK))
            with cgutils.for_range_slice(build, _INDEX(0), whole, _INDEX(_CHUNK)) as (index, _steps):
                step(index, _CHUNK)
            with cgutils.for_range_slice(build, whole, count, _INDEX(1)) as (index, _steps):
                step(index, 1)
            return context.get_dummy_value()

        return types.void(codes, types.intp, out, types.intp, types.intp), generate

    compiled: Callable[..., None] = intrinsic(conversion)
    return compiled


def _row_pointer(context: Any, build: Any, kind: Any, value: Any, row: Any, number: Any) -> Any:
    """A pointer to numbers, at the start of a row of an array of two dimensions."""
    array = context.make_array(kind)(context, build, value)
    width = cgutils.unpack_tuple(build, array.shape)[1]
    return build.bitcast(build.gep(array.data, [build.mul(row, width)]), number.as_pointer())


halves_to_floats = _conversion(_HALF, _FLOAT, _half_to_float)
float8_to_floats = _conversion(_BYTE, _FLOAT, _float8_to_float)
float8_to_pairs = _conversion(_BYTE, _HALF, _float8_to_bfloat16)
bfloat16_to_floats = _conversion(_HALF, _FLOAT, _bfloat16_to_float)
bfloat16_to_pairs = _conversion(_HALF, _HALF, _same)
integers_to_quads = _conversion(_BYTE, _BYTE, _signed_to_unsigned)
integers_to_floats = _conversion(_BYTE, _FLOAT, _signed_to_float)
quads_to_floats = _conversion(_BYTE, _FLOAT, _unsigned_to_float)


def _shuffle(bits: int) -> Callable[..., None]:
    """A function of compiled code: codes uint8 [n, bytes], row, levels uint8 [16], out [m, W] of words, place -> None

    looks up the levels of codes[row], of at least SHUFFLED_BYTES bytes, as Codebook.levels_of does, into out[place].
    """
    bytes_ = ir.VectorType(_BYTE, SHUFFLED_BYTES)

    def shuffle(_: Any, codes: Any, _row: Any, levels: Any, out: Any, _place: Any) -> Any:
        def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            p_codes = _row_pointer(context, build, signature.args[0], arguments[0], arguments[1], _BYTE)
            p_out = _row_pointer(context, build, signature.args[3], arguments[3], arguments[4], _BYTE)
            width = cgutils.unpack_tuple(
                build, context.make_array(signature.args[0])(context, build, arguments[0]).shape
            )[1]
            p_levels = context.make_array(signature.args[2])(context, build, arguments[2]).data
            table = build.load(build.bitcast(p_levels, bytes_.as_pointer()), align=1)
            shape = ir.FunctionType(bytes_, [bytes_, bytes_])
            table_of = cgutils.get_or_insert_function(build.module, shape, "llvm.x86.ssse3.pshuf.b.128")
            with cgutils.for_range_slice(build, _INDEX(0), width, _INDEX(SHUFFLED_BYTES)) as (index, _steps):
                last = build.sub(width, _INDEX(SHUFFLED_BYTES))  # The last chunk overlaps the one before.
                first = build.select(build.icmp_signed("<", index, last), index, last)
                packed = build.load(build.bitcast(build.gep(p_codes, [first]), bytes_.as_pointer()), align=1)
                for part in range(8 // bits):
                    shifted = build.lshr(packed, ir.Constant(bytes_, [part * bits] * SHUFFLED_BYTES))
                    numbers = build.and_(shifted, ir.Constant(bytes_, [2**bits - 1] * SHUFFLED_BYTES))
                    place = build.add(first, build.mul(width, _INDEX(part)))
                    p_target = build.bitcast(build.gep(p_out, [place]), bytes_.as_pointer())
                    build.store(build.call(table_of, [table, numbers]), p_target, align=1)
            return context.get_dummy_value()

        return types.void(codes, types.intp, levels, out, types.intp), generate

    compiled: Callable[..., None] = intrinsic(shuffle)
    return compiled


shuffle_nibbles, shuffle_crumbs = _shuffle(4), _shuffle(2)
