"""Environments that lack a package, have two that exclude each other, or one that is broken."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tridex.common import device
from tridex.serving.doctor import packages
from tridex.serving.server import runtime


def installed(monkeypatch: pytest.MonkeyPatch, **named: str) -> None:
    has = {name.replace("_", "-"): version for name, version in named.items()}
    for module in (packages, device):
        monkeypatch.setattr(module, "versions", lambda names: {name: has[name] for name in names if name in has})


def test_both_onnx_runtimes_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, onnxruntime="1.31.1", onnxruntime_gpu="1.31.0")
    monkeypatch.setattr(device, "cuda_of_torch", lambda: "13.0")
    finding = packages.onnx_runtime("gpu")
    assert finding.state == "fault"
    assert finding.detail == "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.0 overwrite each other; expected one of them"
    assert finding.remedy == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'tridex[gpu]'"


def test_no_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    finding = packages.onnx_runtime("embedded")
    assert (finding.state, finding.remedy) == ("missing", "pip install 'tridex[embedded]'")


def test_a_broken_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where one of two was uninstalled: the folder of the other is gone, its entry is not."""

    def providers() -> list[str]:
        raise ImportError("cannot import name 'InferenceSession'")

    installed(monkeypatch, onnxruntime="1.31.1")
    monkeypatch.setattr(packages, "execution_providers", providers)
    finding = packages.onnx_runtime("embedded")
    assert finding.state == "fault" and "InferenceSession" in finding.detail
    assert finding.remedy == "pip uninstall -y onnxruntime && pip install 'tridex[embedded]'"


@pytest.mark.parametrize(("version", "state"), [("1.26.4", "ok"), ("2.1.0", "fault")])
def test_numpy_is_below_2(monkeypatch: pytest.MonkeyPatch, version: str, state: str) -> None:
    installed(monkeypatch, numpy=version)
    assert packages.numpy().state == state


def test_no_torch_and_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert (packages.torch("gpu").state, packages.triton().state) == ("missing", "missing")
    assert packages.torch("gpu").remedy == packages.triton().remedy == "pip install 'tridex[gpu]'"


def test_no_tritonserver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    nothing = SimpleNamespace(find_spec=lambda _: None)
    monkeypatch.setattr(runtime, "importlib", SimpleNamespace(util=nothing))
    finding = packages.tritonserver("embedded")
    assert (finding.state, finding.remedy) == ("missing", "pip install 'tridex[embedded]'")


def test_a_tritonserver_without_a_stub_for_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    version = SimpleNamespace(major=3, minor=7)
    monkeypatch.setattr(runtime, "sys", SimpleNamespace(version_info=version, executable=sys.executable))
    finding = packages.tritonserver("embedded")
    assert finding.state == "missing" and "no stub for Python 3.7" in finding.detail


def test_the_containers_tritonserver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "tritonserver"
    binary.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TRITON_SERVER_VERSION", "2.61.0")
    finding = packages.tritonserver("gpu")
    assert (finding.state, finding.detail) == ("ok", f"2.61.0, {binary}")
