"""The session, on a graph that tells what it was run on. With real encoders: tests/export/test_parity.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tridex.encoding import TokenBatch
from tridex.encoding.onnx_encoder import OnnxEncoder
from tridex.encoding.tokenizer import WIDTH_MULTIPLE

CPU = ["CPUExecutionProvider"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token's embedding is (its id, its text's attended tokens, the width it ran at), times the embedding mask."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("INPUT_IDS", "ATTENTION_MASK", "EMBEDDING_MASK")
    ]
    output = helper.make_tensor_value_info("EMBEDDINGS", TensorProto.FLOAT, ["batch", "tokens", "dim"])
    axes = [numpy_helper.from_array(np.array([axis], np.int64), name) for axis, name in ((-1, "last"), (1, "one"))]
    nodes = [
        helper.make_node("Unsqueeze", ["INPUT_IDS", "last"], ["ids"]),
        helper.make_node("ReduceSum", ["ATTENTION_MASK", "one"], ["attended"], keepdims=1),
        helper.make_node("Unsqueeze", ["attended", "last"], ["attended3"]),
        helper.make_node("Shape", ["ids"], ["shape"]),
        helper.make_node("Expand", ["attended3", "shape"], ["attended_each"]),
        helper.make_node("Gather", ["shape", "one"], ["width"]),
        helper.make_node("Expand", ["width", "shape"], ["width_each"]),
        helper.make_node("Concat", ["ids", "attended_each", "width_each"], ["all"], axis=2),
        helper.make_node("Unsqueeze", ["EMBEDDING_MASK", "last"], ["mask"]),
        helper.make_node("Mul", ["all", "mask"], ["masked"]),
        helper.make_node("Cast", ["masked"], ["EMBEDDINGS"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "probe", inputs, [output], axes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(model, path)
    return Path(path)


@pytest.fixture(scope="module", params=[1, 3])
def encoder(model_path: Path, request: pytest.FixtureRequest) -> OnnxEncoder:
    return OnnxEncoder(model_path, CPU, threads=request.param)


@st.composite
def batches(draw: st.DrawFn) -> TokenBatch:
    """Texts of any lengths, no tokens among them, skipped tokens anywhere and expansion tokens at the end."""
    tokens = draw(st.integers(1, 40))
    lengths = np.array(draw(st.lists(st.integers(0, tokens), min_size=1, max_size=6)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    positions = np.arange(tokens)
    real = positions < lengths[:, None]
    expansion = ~real & (positions < draw(st.integers(0, tokens)))
    attended = real | expansion if draw(st.booleans()) else real
    scored = (real & (random.random(real.shape) < 0.8)) | expansion
    ids = random.integers(1, 1000, real.shape)
    return TokenBatch(ids, attended.astype(np.int64), scored.astype(np.int64))


def width_of(batch: TokenBatch, row: int) -> int:
    tokens = batch.input_ids.shape[1]
    used = np.flatnonzero(batch.attention_mask[row] | batch.embedding_mask[row])
    length = used[-1] + 1 if len(used) else 1
    return min(tokens, -(-length // WIDTH_MULTIPLE) * WIDTH_MULTIPLE)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(batches(), min_size=1, max_size=4))
def test_every_text_runs_at_its_own_width(encoder: OnnxEncoder, several: list[TokenBatch]) -> None:
    outputs = encoder.encode_many(several)
    assert len(outputs) == len(several)
    for batch, output in zip(several, outputs, strict=True):
        assert output.shape == (*batch.input_ids.shape, 3)
        assert output.dtype == np.float32
        for row in range(len(output)):
            scored = batch.embedding_mask[row] == 1
            assert not output[row, ~scored].any()
            ids, attended, widths = output[row, scored].T
            np.testing.assert_array_equal(ids, batch.input_ids[row, scored])
            assert set(attended) <= {batch.attention_mask[row].sum()}
            assert set(widths) <= {width_of(batch, row)}


def test_encode_is_encode_many_of_one(encoder: OnnxEncoder) -> None:
    ones = np.ones((2, 12), np.int64)
    batch = TokenBatch(np.arange(24).reshape(2, 12), ones, ones)
    np.testing.assert_array_equal(encoder.encode(batch), encoder.encode_many([batch])[0])
    assert encoder.dim == 3


def test_one_thread_a_core(model_path: Path) -> None:
    """Where threads are as many as cores. The first core is the caller's."""
    cores = sorted(os.sched_getaffinity(0))
    before = set(Path("/proc/self/task").iterdir())
    encoder = OnnxEncoder(model_path, CPU, threads=len(cores))
    started = set(Path("/proc/self/task").iterdir()) - before
    assert encoder.dim == 3
    expected = [[core] for core in cores[1:]]
    until = time.monotonic() + 10  # A thread pins itself, some time after it has started.
    pinned: list[list[int]] = []
    while pinned != expected and time.monotonic() < until:
        pinned = sorted(sorted(os.sched_getaffinity(int(task.name))) for task in started)
    assert pinned == expected
