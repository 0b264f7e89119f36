"""The CPU's innermost loop: a tile of dot products held in vector registers, and their maxima.

    best[i] = max(best[i], max over ROWS document tokens j of <Q_i, D_j>)

It is written as LLVM vector code, because numba's own loops cannot keep a tile of sums in registers. Every lane belongs
to one query token and adds its products in the order of the dimensions with fused multiply-adds, so the bits of its
result do not depend on the other lanes, on the number of vectors or on the width of the machine's registers.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_AVX512 = bool(binding.get_host_cpu_features().get("avx512f"))

LANES = 16 if _AVX512 else 8
"""Query tokens in a vector."""

PANEL = 2 * LANES
"""Query tokens in a panel: two vectors."""

ROWS = 8 if _AVX512 else 6
"""Document tokens in a tile. Its 2 * ROWS sums and 3 operands take 19 of AVX-512's 32 registers and 15 of AVX2's 16.
4 rows x 4 vectors and 5 x 4 were as fast (110 Gflop/s on a core of an EPYC with AVX-512) and padded queries more.
"""

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INDEX = ir.IntType(64)


def _tile(vectors: int) -> Callable[..., None]:
    """A function of compiled code, on the first `vectors` vectors of a panel:

    strip float32 [tokens, dim], token, panel float32 [dim, PANEL], best float32 [PANEL] -> None

    takes the maxima over ROWS tokens of the strip, from `token` on, into best. Past the end of the strip it takes the
    last token again, which cannot change a maximum.
    """

    def tile(_: Any, strip: Any, _token: Any, panel: Any, best: Any) -> Any:
        def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
            arrays = [context.make_array(signature.args[i])(context, build, arguments[i]) for i in (0, 2, 3)]
            p_strip, p_panel, p_best = (array.data for array in arrays)
            tokens, dim = cgutils.unpack_tuple(build, arrays[0].shape)
            fma_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
            fma = cgutils.get_or_insert_function(build.module, fma_type, f"llvm.fma.v{LANES}f32")

            def vector_at(pointer: Any, index: Any) -> Any:
                return build.bitcast(build.gep(pointer, [index]), _VECTOR.as_pointer())

            def broadcast(pointer: Any) -> Any:
                lane_0 = build.insert_element(ir.Constant(_VECTOR, ir.Undefined), build.load(pointer), _INDEX(0))
                return build.shuffle_vector(
                    lane_0, lane_0, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                )

            rows = []
            for i in range(ROWS):
                row = build.add(arguments[1], _INDEX(i))
                last = build.sub(tokens, _INDEX(1))
                row = build.select(build.icmp_signed("<", row, last), row, last)
                rows.append(build.gep(p_strip, [build.mul(row, dim)]))
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            sums = [[cgutils.alloca_once(build, _VECTOR) for _ in range(vectors)] for _ in rows]
            for p_sum in (p_sum for row_sums in sums for p_sum in row_sums):
                build.store(zero, p_sum)
            with cgutils.for_range(build, dim) as loop:
                start = build.mul(loop.index, _INDEX(PANEL))
                queries = [
                    build.load(vector_at(p_panel, build.add(start, _INDEX(v * LANES))), align=4) for v in range(vectors)
                ]
                for row, row_sums in zip(rows, sums, strict=True):
                    document = broadcast(build.gep(row, [loop.index]))
                    for query, p_sum in zip(queries, row_sums, strict=True):
                        build.store(build.call(fma, [document, query, build.load(p_sum)]), p_sum)
            for v in range(vectors):
                p_target = vector_at(p_best, _INDEX(v * LANES))
                maximum = build.load(p_target, align=4)
                for row_sums in sums:
                    dots = build.load(row_sums[v])
                    maximum = build.select(build.fcmp_ordered(">", dots, maximum), dots, maximum)
                build.store(maximum, p_target, align=4)
            return context.get_dummy_value()

        return types.void(strip, types.intp, panel, best), generate

    compiled: Callable[..., None] = intrinsic(tile)
    return compiled


half_panel_tile = _tile(1)
panel_tile = _tile(2)
