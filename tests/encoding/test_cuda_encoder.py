"""The encoder on a GPU, as far as one sees it without: what ONNX Runtime is asked for, and what is said of it."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tridex.encoding import ProviderError, UnknownDeviceError, cuda_encoder, providers
from tridex.encoding.cuda_encoder import CudaEncoder


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
        return SimpleNamespace(get_providers=lambda: [name for name, _ in providers])


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SimpleNamespace(cuda_stream=7)
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
