"""The int8 product against its formula, computed by numpy."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tridex.export.errors import ExportError
from tridex.export.precision import quantised

K, N = 32, 24
WEIGHTS = np.random.default_rng(0).standard_normal((K, N)).astype(np.float32)
WEIGHTS[:, 3] = 0


def one_product(weights: NDArray[np.float32] | None) -> onnx.ModelProto:
    """y = x w, of a constant where there is one."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", K])]
    if weights is None:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [K, N]))
    constants = [] if weights is None else [numpy_helper.from_array(weights, "w")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", N])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    graph = quantised(one_product(WEIGHTS)).SerializeToString()
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def product(session: onnxruntime.InferenceSession, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(session.run(None, {"x": x})[0])


def expected(x: NDArray[np.float32]) -> NDArray[np.float64]:
    peak = np.abs(x).max(axis=-1, keepdims=True).astype(np.float64)
    scale = np.abs(WEIGHTS).max(axis=0).astype(np.float64) / 127
    rows = np.rint(127 * np.divide(x, peak, where=peak > 0, out=np.zeros_like(x, np.float64)))
    columns = np.rint(np.divide(WEIGHTS, scale, where=scale > 0, out=np.zeros_like(WEIGHTS, np.float64)))
    return peak / 127 * scale * (rows @ columns)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 20), st.integers(-6, 6))
def test_product_is_its_formula(
    session: onnxruntime.InferenceSession, seed: int, texts: int, tokens: int, exponent: int
) -> None:
    x = np.random.default_rng(seed).standard_normal((texts, tokens, K)).astype(np.float32) * np.float32(10) ** exponent
    x[0, -1] = 0
    want, got = expected(x), product(session, x)
    # A quotient that float32 puts on the other side of a half moves one code of K by one.
    one_code = np.abs(x).max(axis=-1, keepdims=True) / 127 * np.abs(WEIGHTS).max(axis=0)
    assert (np.abs(got - want) <= 1.01 * one_code + 1e-6 * np.abs(want)).all()
    assert np.abs(got - want).mean() <= 1e-2 * one_code.mean() + 1e-6 * np.abs(want).mean()
    assert not got[0, -1].any(), "a token of zeros"
    assert not got[..., 3].any(), "a column of zeros"


def test_a_token_depends_on_itself_alone(session: onnxruntime.InferenceSession) -> None:
    x = np.random.default_rng(1).standard_normal((4, 9, K)).astype(np.float32)
    x[2, 5] *= 1e4
    together = product(session, x)
    for text in range(4):
        for token in range(9):
            np.testing.assert_array_equal(
                product(session, x[text : text + 1, token : token + 1])[0, 0], together[text, token]
            )


def test_error_is_that_of_8_bits(session: onnxruntime.InferenceSession) -> None:
    x = np.random.default_rng(2).standard_normal((4, 50, K)).astype(np.float32)
    exact = x @ WEIGHTS
    assert np.linalg.norm(product(session, x) - exact) / np.linalg.norm(exact) < 0.015


def test_a_graph_without_constant_weights_is_refused() -> None:
    with pytest.raises(ExportError, match="precision: int8, but the graph has no matrix product with constant weights"):
        quantised(one_product(None))
