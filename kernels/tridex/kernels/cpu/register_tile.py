"""The CPU's innermost loops as LLVM vector code, because numba's own cannot keep a tile of sums in registers.

    dots[j, i] = <D_j, Q_i>                      for the tokens j of a token tile and the query tokens i of a panel
    best[i] = max(best[i], max over j of dots[j, i])

A register tile is ROWS document tokens and one or two vectors of query tokens. A word of 32 bits holds what one
instruction takes of a token: a float32 number, a pair of bfloat16 numbers, or four integers of 8 bits. A document's
word is broadcast to all lanes, and every lane belongs to one query token and adds its products in the order of the
words: its result's bits do not depend on the other lanes, on the number of vectors or on the width of the machine's
registers.

Cycles for a document token of 128 numbers and 16 query tokens, on an EPYC with AVX-512 (Zen 4):

                            one vector    of two vectors    multiplications alone
    float32                        128               130                      128
    bfloat16, in pairs              88                66                       64
    integers, in fours              47                34                       32
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
"""What numba compiles for: this CPU, unless NUMBA_CPU_FEATURES says otherwise."""

_AVX512 = "+avx512f" in FEATURES

HAS_PAIRS = {"+avx512f", "+avx512bf16"} <= FEATURES
"""Whether an instruction adds products of pairs of bfloat16 numbers: twice float32's rate on Zen 4."""

HAS_QUADS = {"+avx512f", "+avx512vnni"} <= FEATURES
"""Whether one adds products of four integers of 8 bits: four times float32's rate."""

FLOATS, PAIRS, QUADS = range(3)
"""What a word holds: one float32 number, two of bfloat16, four integers of 8 bits."""

NUMBERS_PER_WORD = (1, 2, 4)

LANES = 16 if _AVX512 else 8
"""Query tokens in a vector."""

PANEL = 2 * LANES
"""Query tokens in a panel, as BLIS calls what is packed for a register tile: two vectors."""

ROWS = 8 if _AVX512 else 6
"""Document tokens in a register tile. Its 2 * ROWS sums and 3 operands take 19 of AVX-512's 32 registers and 15 of
AVX2's 16. 4 rows x 4 vectors and 5 x 4 were as fast (110 Gflop/s on a core of an EPYC with AVX-512) and padded queries
more.
"""

# Here and not where assembly is written: that is left out where numba's cache has it, and what is compiled around it
# would end the process. So it was, at every start, once a first one had been ended while it compiled.
binding.initialize_native_asmparser()

_CACHE_LINE = 64
_FLOAT = ir.FloatType()
_WORD = ir.IntType(32)
_INDEX = ir.IntType(64)
_FLOAT_LANES = ir.VectorType(_FLOAT, LANES)
_WORD_LANES = ir.VectorType(_WORD, LANES)

_Add = Callable[[Any, Any, Any, Any], Any]
"""Builder, sums, a document's word in every lane, a word of each query token -> sums."""


def _add_floats(build: Any, sums: Any, document: Any, queries: Any) -> Any:
    fma_type = ir.FunctionType(_FLOAT_LANES, [_FLOAT_LANES] * 3)
    fma = cgutils.get_or_insert_function(build.module, fma_type, f"llvm.fma.v{LANES}f32")
    return build.call(fma, [build.bitcast(document, _FLOAT_LANES), build.bitcast(queries, _FLOAT_LANES), sums])


def _add_by(instruction: str, numbers: Any) -> _Add:
    """As assembly, because LLVM's own names and types for these two change with its versions."""

    def add(build: Any, sums: Any, document: Any, queries: Any) -> Any:
        shape = ir.FunctionType(numbers, [_WORD_LANES, _WORD_LANES, numbers])
        return build.asm(shape, f"{instruction} $2, $1, $0", "=v,v,v,0", [document, queries, sums], False)

    return add


def _product(add: _Add, numbers: Any, vectors: int) -> Callable[..., None]:
    """A function of compiled code, on the first `vectors` vectors of the panel p:

    words uint32 [n, W], places int64 [>= count rounded up to ROWS], count, panels uint32 [panels, W, PANEL], p,
    starts int32 [panels, PANEL], scales float32 [as places], dots float32 [as places, PANEL],
    codes uint8 [tokens, bytes], coming int64 [any], coming_count -> None

    sets dots[j] = <words[places[j]], panel> for j < count; where words hold integers, it sets
    dots[j] = (starts + <words[places[j]], panel>) * scales[j].
    Meanwhile it asks for the codes of the coming tokens, a row of them after every ROWS-th of the words: asked for all
    at once they filled the queue of misses, and 8 to 20 % of the time was lost.
    """
    integers = numbers is _WORD_LANES

    def product(
        _: Any,
        words: Any,
        places: Any,
        _count: Any,
        panels: Any,
        _p: Any,
        starts: Any,
        scales: Any,
        dots: Any,
        codes: Any,
        coming: Any,
        _coming_count: Any,
    ) -> Any:
        def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            arrays = {
                i: context.make_array(kind)(context, build, value)
                for i, (kind, value) in enumerate(zip(signature.args, arguments, strict=True))
                if isinstance(kind, types.Array)
            }
            p_words, p_places, p_panels, p_starts, p_scales, p_dots, p_codes, p_coming = (
                array.data for array in arrays.values()
            )
            count, panel, coming_count = arguments[2], arguments[4], arguments[10]
            width = cgutils.unpack_tuple(build, arrays[0].shape)[1]
            p_panel = build.gep(p_panels, [build.mul(panel, build.mul(width, _INDEX(PANEL)))])
            p_start = build.gep(p_starts, [build.mul(panel, _INDEX(PANEL))])
            row_bytes = cgutils.unpack_tuple(build, arrays[8].shape)[1]
            sums = [[cgutils.alloca_once(build, numbers) for _ in range(vectors)] for _ in range(ROWS)]
            with cgutils.for_range_slice(build, _INDEX(0), count, _INDEX(ROWS)) as (first, _steps):
                rows = [build.add(first, _INDEX(i)) for i in range(ROWS)]
                documents = [build.gep(p_words, [build.mul(_load(build, p_places, row), width)]) for row in rows]
                for row_sums in sums:
                    for v, p_sum in enumerate(row_sums):
                        zero = ir.Constant(numbers, [0.0] * LANES)
                        build.store(_load(build, p_start, _INDEX(v * LANES), numbers) if integers else zero, p_sum)
                with cgutils.for_range(build, _INDEX(ROWS)) as part:
                    row = build.add(first, part.index)
                    with build.if_then(build.icmp_signed("<", row, coming_count)):
                        fetch(build, p_codes, build.mul(_load(build, p_coming, row), row_bytes), row_bytes)
                    start = build.udiv(build.mul(part.index, width), _INDEX(ROWS))
                    end = build.udiv(build.mul(build.add(part.index, _INDEX(1)), width), _INDEX(ROWS))
                    with cgutils.for_range_slice(build, start, end, _INDEX(1)) as (word, _steps):
                        at = build.mul(word, _INDEX(PANEL))
                        queries = [
                            _load(build, p_panel, build.add(at, _INDEX(v * LANES)), _WORD_LANES) for v in range(vectors)
                        ]
                        for p_document, row_sums in zip(documents, sums, strict=True):
                            document = _broadcast(build, _load(build, p_document, word), _WORD_LANES)
                            for query, p_sum in zip(queries, row_sums, strict=True):
                                build.store(add(build, build.load(p_sum), document, query), p_sum)
                for row, row_sums in zip(rows, sums, strict=True):
                    for v, p_sum in enumerate(row_sums):
                        dot = build.load(p_sum)
                        if integers:
                            dot = build.sitofp(dot, _FLOAT_LANES)
                            dot = build.fmul(dot, _broadcast(build, _load(build, p_scales, row), _FLOAT_LANES))
                        place = build.add(build.mul(row, _INDEX(PANEL)), _INDEX(v * LANES))
                        build.store(dot, _pointer(build, p_dots, place, _FLOAT_LANES), align=4)
            return context.get_dummy_value()

        n = types.intp
        return types.void(words, places, n, panels, n, starts, scales, dots, codes, coming, n), generate

    compiled: Callable[..., None] = intrinsic(product)
    return compiled


def _fold(vectors: int) -> Callable[..., None]:
    """A function of compiled code, on the first `vectors` vectors:

    dots float32 [n, PANEL], first, end, best float32 [m, PANEL], row -> None

    takes the maxima over dots[first:end] into best[row]; a NaN is passed over.
    """

    def fold(_: Any, dots: Any, _first: Any, _end: Any, best: Any, _row: Any) -> Any:
        def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            p_dots, p_best = (context.make_array(signature.args[i])(context, build, arguments[i]).data for i in (0, 3))
            target = build.mul(arguments[4], _INDEX(PANEL))
            maxima = [cgutils.alloca_once(build, _FLOAT_LANES) for _ in range(vectors)]
            for v, p_maximum in enumerate(maxima):
                build.store(_load(build, p_best, build.add(target, _INDEX(v * LANES)), _FLOAT_LANES), p_maximum)
            with cgutils.for_range_slice(build, arguments[1], arguments[2], _INDEX(1)) as (row, _steps):
                at = build.mul(row, _INDEX(PANEL))
                for v, p_maximum in enumerate(maxima):
                    found = _load(build, p_dots, build.add(at, _INDEX(v * LANES)), _FLOAT_LANES)
                    maximum = build.load(p_maximum)
                    build.store(build.select(build.fcmp_ordered(">", found, maximum), found, maximum), p_maximum)
            for v, p_maximum in enumerate(maxima):
                place = _pointer(build, p_best, build.add(target, _INDEX(v * LANES)), _FLOAT_LANES)
                build.store(build.load(p_maximum), place, align=4)
            return context.get_dummy_value()

        return types.void(dots, types.intp, types.intp, best, types.intp), generate

    compiled: Callable[..., None] = intrinsic(fold)
    return compiled


def fetch(build: Any, p_bytes: Any, start: Any, length: Any) -> None:
    """Asks for the cache lines of bytes[start:start + length]."""
    with cgutils.for_range_slice(build, _INDEX(0), length, _INDEX(_CACHE_LINE)) as (byte, _steps):
        address = build.bitcast(build.gep(p_bytes, [build.add(start, byte)]), ir.IntType(8).as_pointer())
        shape = ir.FunctionType(ir.VoidType(), [address.type, _WORD, _WORD, _WORD])
        prefetch = cgutils.get_or_insert_function(build.module, shape, "llvm.prefetch.p0")
        read, first_level, data = _WORD(0), _WORD(3), _WORD(1)
        build.call(prefetch, [address, read, first_level, data])


def _pointer(build: Any, pointer: Any, index: Any, vector: Any) -> Any:
    return build.bitcast(build.gep(pointer, [index]), vector.as_pointer())


def _load(build: Any, pointer: Any, index: Any, vector: Any = None) -> Any:
    """One number, or a vector of them."""
    if vector is None:
        return build.load(build.gep(pointer, [index]))
    return build.load(_pointer(build, pointer, index, vector), align=4)


def _broadcast(build: Any, number: Any, vector: Any) -> Any:
    lane_0 = build.insert_element(ir.Constant(vector, ir.Undefined), number, _INDEX(0))
    return build.shuffle_vector(lane_0, lane_0, ir.Constant(_WORD_LANES, [0] * LANES))


_add_pairs, _add_quads = _add_by("vdpbf16ps", _FLOAT_LANES), _add_by("vpdpbusd", _WORD_LANES)
float_product, half_float_product = _product(_add_floats, _FLOAT_LANES, 2), _product(_add_floats, _FLOAT_LANES, 1)
pair_product, half_pair_product = _product(_add_pairs, _FLOAT_LANES, 2), _product(_add_pairs, _FLOAT_LANES, 1)
quad_product, half_quad_product = _product(_add_quads, _WORD_LANES, 2), _product(_add_quads, _WORD_LANES, 1)
fold, half_fold = _fold(2), _fold(1)
