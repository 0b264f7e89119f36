"""Codes to the words that the register tiles multiply, as LLVM vector code: what every conversion is built from.

numba's own loops took 1.4 to 9 times as long.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .register_tile import FEATURES, fetch

BYTE, HALF, WORD, _INDEX = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOAT = ir.FloatType()

_CHUNK = 16
"""Numbers converted at a time."""

_HAS_SHUFFLE = "+ssse3" in FEATURES
_SHUFFLED_BYTES = 16
"""Bytes of residual codes that an instruction looks up at a time."""


class Chunk:
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


Convert = Callable[[Chunk, Any], Any]
"""Builds the conversion of a chunk's numbers."""


def conversion(source: Any, target: Any, convert: Convert) -> Callable[..., None]:
    """A function of compiled code: codes uint8 [n, bytes], row, out [m, W] of words, place, count -> None

    converts the first `count` numbers of codes[row] to the start of out[place].
    """

    def converted(_: Any, codes: Any, _row: Any, out: Any, _place: Any, _count: Any) -> Any:
        def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            _, row, _, place, count = arguments
            p_codes = _row_pointer(context, build, signature.args[0], arguments[0], row, source)
            p_out = _row_pointer(context, build, signature.args[2], arguments[2], place, target)

            def step(index: Any, length: int) -> None:
                chunk = Chunk(build, length)
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

    compiled: Callable[..., None] = intrinsic(converted)
    return compiled


def _row_pointer(context: Any, build: Any, kind: Any, value: Any, row: Any, number: Any) -> Any:
    """A pointer to numbers, at the start of a row of an array of two dimensions."""
    array = context.make_array(kind)(context, build, value)
    width = cgutils.unpack_tuple(build, array.shape)[1]
    return build.bitcast(build.gep(array.data, [build.mul(row, width)]), number.as_pointer())


def decode(bits: int) -> Callable[..., None]:
    """A function of compiled code:

    codes uint8 [n, bytes], row, centroids uint8 [m, dim], id, coming_id, weights uint8 [16], out [k, W] of words, place
    -> None

    puts the bytes centroids[id] + weights[codes[row]], in the order of Codebook.bucket_weights_of, into out[place].
    Meanwhile it asks for centroids[coming_id].
    """
    bytes_ = ir.VectorType(BYTE, _SHUFFLED_BYTES)

    def decoded(
        _: Any,
        codes: Any,
        _row: Any,
        centroids: Any,
        _id: Any,
        _coming_id: Any,
        weights: Any,
        out: Any,
        _place: Any,
    ) -> Any:
        def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            kinds = signature.args
            p_codes = _row_pointer(context, build, kinds[0], arguments[0], arguments[1], BYTE)
            p_centroid = _row_pointer(context, build, kinds[2], arguments[2], arguments[3], BYTE)
            p_coming = _row_pointer(context, build, kinds[2], arguments[2], arguments[4], BYTE)
            p_weights = context.make_array(kinds[5])(context, build, arguments[5]).data
            p_out = _row_pointer(context, build, kinds[6], arguments[6], arguments[7], BYTE)
            width = cgutils.unpack_tuple(build, context.make_array(kinds[0])(context, build, arguments[0]).shape)[1]

            fetch(build, p_coming, _INDEX(0), build.mul(width, _INDEX(8 // bits)))

            def store(part: int, index: Any, weights: Any) -> None:
                """The sums of the part's weights from `index` on: a byte, or a vector of them."""
                place = build.add(index, build.mul(width, _INDEX(part)))
                p_source, p_target = (
                    build.bitcast(build.gep(pointer, [place]), weights.type.as_pointer())
                    for pointer in (p_centroid, p_out)
                )
                build.store(build.add(build.load(p_source, align=1), weights), p_target, align=1)

            def one_by_one() -> None:
                with cgutils.for_range(build, width) as byte:
                    packed = build.load(build.gep(p_codes, [byte.index]))
                    for part in range(8 // bits):
                        bucket = build.and_(build.lshr(packed, BYTE(part * bits)), BYTE(2**bits - 1))
                        store(part, byte.index, build.load(build.gep(p_weights, [build.zext(bucket, _INDEX)])))

            def shuffled() -> None:
                table = build.load(build.bitcast(p_weights, bytes_.as_pointer()), align=1)
                shape = ir.FunctionType(bytes_, [bytes_, bytes_])
                shuffle = cgutils.get_or_insert_function(build.module, shape, "llvm.x86.ssse3.pshuf.b.128")
                with cgutils.for_range_slice(build, _INDEX(0), width, _INDEX(_SHUFFLED_BYTES)) as (index, _steps):
                    last = build.sub(width, _INDEX(_SHUFFLED_BYTES))  # The last chunk overlaps the one before.
                    first = build.select(build.icmp_signed("<", index, last), index, last)
                    packed = build.load(build.bitcast(build.gep(p_codes, [first]), bytes_.as_pointer()), align=1)
                    for part in range(8 // bits):
                        shifted = build.lshr(packed, ir.Constant(bytes_, [part * bits] * _SHUFFLED_BYTES))
                        buckets = build.and_(shifted, ir.Constant(bytes_, [2**bits - 1] * _SHUFFLED_BYTES))
                        store(part, first, build.call(shuffle, [table, buckets]))

            if _HAS_SHUFFLE:
                with build.if_else(build.icmp_signed(">=", width, _INDEX(_SHUFFLED_BYTES))) as (many, few):
                    with many:
                        shuffled()
                    with few:
                        one_by_one()
            else:
                one_by_one()
            return context.get_dummy_value()

        n = types.intp
        return types.void(codes, n, centroids, n, n, weights, out, n), generate

    compiled: Callable[..., None] = intrinsic(decoded)
    return compiled
