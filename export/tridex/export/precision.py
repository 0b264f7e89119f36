"""The precisions of an export, and the float32 graph with 8-bit integer matrix products."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .errors import ExportError


class Precision(str, Enum):
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def quantised(graph: onnx.ModelProto) -> onnx.ModelProto:
    """int8 matrix products with float32 between them: one scale per column for weights, one per token for activations.

    For x [tokens, k] and w [k, n], with p_t = max_k |x_tk| and c_n = max_k |w_kn| / 127:

        y_tn = p_t (c_n / 127) sum_k round(127 x_tk / p_t) round(w_kn / c_n)

    ONNX Runtime's own dynamic quantisation has one activation scale per tensor, so that padding and the other texts of
    a batch change a text's embeddings (by up to 0.12 in an element of MiniLM's), and one outlier token makes all of
    them coarser. With a scale per token, tokens are independent and texts can share a batch. The cost in quality is in
    docs/benchmarks.md.

    Products are as fast as the instructions allow (390 GOPS per core, float32 100), so the passes between them count:
    four operations quantise a row and two make a product, of which MatMulIntegerToFloat (a contrib operator of ONNX
    Runtime's CPU provider) scales the columns while they are in cache. Eight and four standard operators took 10 to
    17 % longer. Measured slower than both: MatMulNBits, 8 bits in blocks of 128 (a product 1.3 to 2 times as long);
    QuantizeLinear with a scale per row (6 times, the whole graph).

    For CPUs that multiply bytes in one instruction (x86 with VNNI, Arm with dotprod). Older x86 sums pairs of products
    in 16 bits, which saturates: export there, and the parity gate will show it.

    Raises:
        ExportError: The graph has no product with constant weights.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    weights = {tensor.name: tensor for tensor in result.graph.initializer if len(tensor.dims) == 2}
    nodes: list[NodeProto] = []
    constants = list(_CONSTANTS)
    replaced: set[str] = set()
    rows: set[str] = set()
    for node in result.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            nodes.append(node)
            continue
        x, w = node.input
        if x not in rows:
            rows.add(x)
            nodes.extend(_quantise_rows(x))
        if w not in replaced:
            replaced.add(w)
            constants.extend(_quantise_columns(w, numpy_helper.to_array(weights[w])))
        nodes.extend(_product(x, w, node.output[0]))
    if not replaced:
        raise ExportError(
            "precision: int8, but the graph has no matrix product with constant weights; export it with precision fp32"
        )
    still_read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in result.graph.initializer if tensor.name in still_read]
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend([*kept, *constants])
    result.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    return result


_CONTRIB = "com.microsoft"
_STEP, _ZERO_POINT, _LAST_AXIS, _ONE = "int8/step", "int8/zero_point", "int8/last_axis", "int8/one"
_CONSTANTS = (
    numpy_helper.from_array(np.array(1 / 127, np.float32), _STEP),
    numpy_helper.from_array(np.array(128, np.uint8), _ZERO_POINT),
    numpy_helper.from_array(np.array([-1], np.int64), _LAST_AXIS),
    numpy_helper.from_array(np.array(1, np.float32), _ONE),
)


def _quantise_rows(x: str) -> Iterable[NodeProto]:
    """x [..., k] float32 to x/codes [..., k] uint8 around 128 (CPUs multiply unsigned by signed), x/peak [..., 1].

    A row of zeros gives NaN and so any codes; the product's last factor is its peak, 0.
    """
    yield helper.make_node("Abs", [x], [f"{x}/abs"])
    yield helper.make_node("ReduceMax", [f"{x}/abs", _LAST_AXIS], [f"{x}/peak"], keepdims=1)
    yield helper.make_node("Div", [x, f"{x}/peak"], [f"{x}/share"])
    yield helper.make_node("QuantizeLinear", [f"{x}/share", _STEP, _ZERO_POINT], [f"{x}/codes"])


def _quantise_columns(w: str, values: NDArray[np.float32]) -> Iterable[TensorProto]:
    """w [k, n] float32 to w/codes [k, n] int8 and w/scale [n], a code's value times the rows' step."""
    scale = np.maximum(np.abs(values).max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
    yield numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{w}/codes")
    yield numpy_helper.from_array(scale / np.float32(127), f"{w}/scale")


def _product(x: str, w: str, y: str) -> Iterable[NodeProto]:
    operands = [f"{x}/codes", f"{w}/codes", _ONE, f"{w}/scale", _ZERO_POINT]
    yield helper.make_node("MatMulIntegerToFloat", operands, [f"{y}/shares"], domain=_CONTRIB)
    yield helper.make_node("Mul", [f"{y}/shares", f"{x}/peak"], [y])
