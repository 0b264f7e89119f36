"""The encoder on a GPU, as far as one sees it without: what ONNX Runtime is asked for, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch

from tridex.encoding import ProviderError, UnknownDeviceError, cuda_encoder, providers
from tridex.encoding.cuda_encoder import CudaEncoder


def run(bound: tuple[torch.Tensor, torch.Tensor], options: onnxruntime.RunOptions) -> None:
    """Sums up a token's id and its masks, as the session that is bound to these tokens and embeddings."""
    tokens, embeddings = bound
    assert options.get_run_config_entry("gpu_graph_id") == "-1", "ONNX Runtime captures a graph by itself"
    embeddings[:] = tokens.sum(dim=0)[..., None]


class Sessions:
    """In place of onnxruntime.InferenceSession: remembers what it is asked for."""

    def __init__(self, *failures: str) -> None:
        self.asked: list[list[tuple[str, dict[str, str]]]] = []
        self._failures = list(failures)

    def __call__(self, _model: str, providers: list[tuple[str, dict[str, str]]], enable_fallback: int) -> Any:
        assert not enable_fallback, "it would be the CPU"
        self.asked.append(providers)
        if self._failures:
            raise RuntimeError(self._failures.pop(0))
        return SimpleNamespace(get_providers=lambda: [name for name, _ in providers], run_with_iobinding=run)


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(cuda_stream=7, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda _: None)
    for loader in ("load_cuda_provider", "load_tensorrt_provider"):
        monkeypatch.setattr(cuda_encoder, loader, lambda: None)


def sessions(monkeypatch: pytest.MonkeyPatch, *failures: str) -> Sessions:
    made = Sessions(*failures)
    monkeypatch.setattr(cuda_encoder.onnxruntime, "InferenceSession", made)
    return made


def test_a_graph_that_cannot_be_captured_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = sessions(monkeypatch, "This session cannot use the graph capture feature")
    with caplog.at_level(logging.WARNING):
        CudaEncoder(Path("model.onnx"), "cuda", 128)
    assert [options["enable_cuda_graph"] for ((_, options),) in made.asked] == ["1", "0"]
    (record,) = caplog.records
    assert "no CUDA graph of the encoder can be captured" in record.getMessage()
    assert "some 1 ms more for each batch" in record.getMessage() and "graph capture feature" in record.getMessage()


def test_nothing_is_said_of_one_that_can(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    made = sessions(monkeypatch)
    CudaEncoder(Path("model.onnx"), "cuda:0", 128)
    ((_, options),) = made.asked[0]
    assert options == {"device_id": "0", "user_compute_stream": "7", "enable_cuda_graph": "1"}
    assert not caplog.records


def test_a_device_that_onnx_runtime_cannot_use_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions(monkeypatch, *["CUDA failure 2: out of memory\n"] * 2)
    with pytest.raises(UnknownDeviceError, match="on cuda:0: CUDA failure 2: out of memory; `tridex doctor"):
        CudaEncoder(Path("model.onnx"), "cuda:0", 128)


def test_a_provider_that_steps_aside_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would go on on the CPU."""
    on_the_cpu = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(cuda_encoder.onnxruntime, "InferenceSession", lambda *_, **__: on_the_cpu)
    with pytest.raises(UnknownDeviceError, match="CUDAExecutionProvider does not take cuda:0") as raised:
        CudaEncoder(Path("model.onnx"), "cuda:0", 128)
    assert raised.value.remedy == "`tridex doctor --device cuda:0` says what is missing"


def capture(monkeypatch: pytest.MonkeyPatch, record: Callable[[Callable[[], None]], Any]) -> CudaEncoder:
    """An encoder that was to capture its shapes of up to 32 tokens; graphs are what `record` makes of their work."""
    encoder = CudaEncoder(Path("model.onnx"), "cuda", 3)
    encoder._device = torch.device("cpu")
    monkeypatch.setattr(CudaEncoder, "_bound", lambda _, *bound: bound)
    monkeypatch.setattr(cuda_encoder, "record", record)
    encoder.capture(32)
    return encoder


def test_graphs_that_compute_what_the_session_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = sessions(monkeypatch)
    encoder = capture(monkeypatch, lambda work: (SimpleNamespace(replay=work), work()))
    assert set(encoder._shapes) == {(batch, width) for batch in cuda_encoder._BATCHES for width in (16, 32)}
    assert len(made.asked) == 1 and not caplog.records


def stale(work: Callable[[], None]) -> Any:
    """A graph that gives again what it was captured with."""
    bound, _ = work.args  # type: ignore[attr-defined]
    _, embeddings = bound
    work()
    kept = embeddings.clone()
    return SimpleNamespace(replay=lambda: embeddings.copy_(kept)), None


def empty(work: Callable[[], None]) -> Any:
    return SimpleNamespace(replay=lambda: None), work()


def unrecorded(_work: Callable[[], None]) -> Any:
    raise RuntimeError("cannot be recorded: cudaMalloc")


@pytest.mark.parametrize(
    ("record", "reason"), [(stale, "something else"), (empty, "something else"), (unrecorded, "cudaMalloc")]
)
def test_graphs_that_do_not_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, record: Any, reason: str
) -> None:
    made = sessions(monkeypatch)
    encoder = capture(monkeypatch, record)
    assert not encoder._shapes
    assert [options["enable_cuda_graph"] for ((_, options),) in made.asked] == ["1", "0"]
    (line,) = caplog.records
    assert "no CUDA graph of the encoder can be captured" in line.getMessage() and reason in line.getMessage()


def test_tensorrt_is_given_one_range_of_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, it compiles the graph again for every new shape."""
    made = sessions(monkeypatch)
    CudaEncoder(Path("folder/model.onnx"), "cuda", 128, tensorrt_tokens=300)
    (name, options), (other, _) = made.asked[0]
    assert (name, other) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["trt_profile_min_shapes"] == "INPUT_IDS:1x1,ATTENTION_MASK:1x1,EMBEDDING_MASK:1x1"
    assert options["trt_profile_max_shapes"].startswith("INPUT_IDS:64x300,")
    assert options["trt_engine_cache_path"] == "folder"


def test_a_graph_that_tensorrt_does_not_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions(monkeypatch, "no such operation")
    with pytest.raises(UnknownDeviceError, match=r"TensorRT cannot run .* on cuda: no such operation; serve without"):
        CudaEncoder(Path("model.onnx"), "cuda", 128, tensorrt_tokens=300)


def test_tensorrt_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(library: Path) -> None:
        if "tensorrt" in library.name:
            raise OSError("libnvinfer.so.10: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(providers, "load_cuda_provider", lambda: None)
    monkeypatch.setattr(providers, "_load", missing)
    monkeypatch.setattr(providers, "cuda_of_torch", lambda: "13.0")
    with pytest.raises(
        ProviderError, match=r"libnvinfer.so.10.*pip install 'tensorrt-cu13-libs==10\.\*', or serve without"
    ):
        providers.load_tensorrt_provider()
