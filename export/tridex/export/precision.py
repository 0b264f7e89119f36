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
    """int8 matrix products with float32 between them: one scale a column for weights, one a token for activations.

    For x [tokens, k] and w [k, n], with s_t = max_k |x_tk| / 127 and c_n = max_k |w_kn| / 127:

        y_tn = s_t c_n sum_k round(x_tk / s_t) round(w_kn / c_n)

    ONNX Runtime's own dynamic quantisation has one activation scale a tensor, so that padding and batch mates change
    a text's embeddings (by up to 0.12 in an element of MiniLM's), and one outlier token coarsens all. With a scale a
    token nothing crosses tokens, so texts can share a batch. Measured with MiniLM, in brackets a scale a tensor and one
    text at a time: mean token cosine to float32 on SciFact 0.9975 (0.990), share of float32's top ten 0.95 (0.93);
    one core, ms a 10-token query 2.5 (2.2), in a batch of 16 1.3 (2.2), a document of 20 to 200 tokens 22 (20; float32
    38). MatMulNBits with 8 bits and blocks of 32 is closer (0.9996) and half as slow again (a document 30).

    For CPUs that multiply bytes in one instruction (x86 with VNNI, Arm with dotprod). Older x86 sums pairs of products
    in 16 bits, which saturates: export there, and the parity gate shows it.

    Raises:
        ExportError: the graph has no product with constant weights.
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
        raise ExportError("precision: int8, but the graph has no matrix product with constant weights")
    still_read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in result.graph.initializer if tensor.name in still_read]
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend([*kept, *constants])
    return result


_STEPS, _ZERO_POINT, _LAST_AXIS, _TINY = "int8/steps", "int8/zero_point", "int8/last_axis", "int8/tiny"
_ROUND = "int8/round"
_CONSTANTS = (
    numpy_helper.from_array(np.array(127, np.float32), _STEPS),
    numpy_helper.from_array(np.array(128, np.uint8), _ZERO_POINT),
    numpy_helper.from_array(np.array([-1], np.int64), _LAST_AXIS),
    # A row of zeros has no scale.
    numpy_helper.from_array(np.array(1e-12, np.float32), _TINY),
    # The zero point, and a half: a cast cuts off, which rounds to the nearest code because codes are positive.
    numpy_helper.from_array(np.array(128.5, np.float32), _ROUND),
)


def _quantise_rows(x: str) -> Iterable[NodeProto]:
    """x [..., k] float32 to x/codes [..., k] uint8 around 128 (CPUs multiply unsigned by signed), x/scale [..., 1]."""
    yield helper.make_node("Abs", [x], [f"{x}/abs"])
    yield helper.make_node("ReduceMax", [f"{x}/abs", _LAST_AXIS], [f"{x}/peak"], keepdims=1)
    yield helper.make_node("Max", [f"{x}/peak", _TINY], [f"{x}/range"])
    # A quotient, not a product: ONNX Runtime fuses products behind MatMulInteger, into a kernel for scalar scales.
    yield helper.make_node("Div", [f"{x}/range", _STEPS], [f"{x}/scale"])
    yield helper.make_node("Div", [_STEPS, f"{x}/range"], [f"{x}/inverse"])
    yield helper.make_node("Mul", [x, f"{x}/inverse"], [f"{x}/scaled"])
    yield helper.make_node("Add", [f"{x}/scaled", _ROUND], [f"{x}/shifted"])
    yield helper.make_node("Cast", [f"{x}/shifted"], [f"{x}/codes"], to=TensorProto.UINT8)


def _quantise_columns(w: str, values: NDArray[np.float32]) -> Iterable[TensorProto]:
    """w [k, n] float32 to w/codes [k, n] int8 and w/scale [n]."""
    scale = np.maximum(np.abs(values).max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
    yield numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{w}/codes")
    yield numpy_helper.from_array(scale, f"{w}/scale")


def _product(x: str, w: str, y: str) -> Iterable[NodeProto]:
    yield helper.make_node("MatMulInteger", [f"{x}/codes", f"{w}/codes", _ZERO_POINT], [f"{y}/sums"])
    yield helper.make_node("Cast", [f"{y}/sums"], [f"{y}/float"], to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{y}/float", f"{x}/scale"], [f"{y}/rows"])
    yield helper.make_node("Mul", [f"{y}/rows", f"{w}/scale"], [y])
