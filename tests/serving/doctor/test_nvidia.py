"""Machines with GPUs that this one does not have."""

from __future__ import annotations

import builtins
import ctypes
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpus
import pytest

from tridex.common import device
from tridex.common.nvidia import Driver, DriverError
from tridex.encoding import ProviderError, load_cuda_provider
from tridex.encoding import providers as encoding_providers
from tridex.serving import providers
from tridex.serving.doctor import nvidia
from tridex.serving.doctor.nvidia import cuda_provider, driver_and_gpus, torch_on_cuda


def test_a_gpu_that_is_all_right() -> None:
    driver, (gpu,) = driver_and_gpus(gpus.driver, 0)
    assert (driver.state, driver.detail) == ("ok", "580.159.03, knows CUDA 13.0")
    assert (gpu.what, gpu.state, gpu.detail) == ("cuda:0", "ok", "NVIDIA H200, sm_90, 139.0 of 140.0 GiB free")


def test_only_the_gpu_that_is_asked_for_is_needed() -> None:
    both = gpus.driver(gpus.T4, replace(gpus.H200, index=1))
    _, (old, new) = driver_and_gpus(lambda: both, 1)
    assert (old.state, old.needed, new.state, new.needed) == ("fault", False, "ok", True)
    assert "sm_75; expected sm_80 or newer" in old.detail and old.remedy
    _, (*_, missing) = driver_and_gpus(lambda: both, 7)
    assert (missing.what, missing.state, missing.needed) == ("cuda:7", "missing", True)


def test_no_driver() -> None:
    def ask() -> Driver:
        raise DriverError("there is no NVIDIA driver")

    driver, none = driver_and_gpus(ask, 0)
    assert (driver.state, none) == ("missing", []) and "driver" in driver.remedy


def test_torch_without_cuda_and_torch_that_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_of_torch", lambda: None)
    assert (torch_on_cuda().state, torch_on_cuda().detail) == ("missing", "torch is built without CUDA")
    monkeypatch.setattr(device, "cuda_of_torch", lambda: "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert torch_on_cuda().state == "fault" and "sees no GPU" in torch_on_cuda().detail


def test_the_cuda_provider_is_loaded_and_not_only_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cuda_provider().state == "missing" and "pip install 'tridex[gpu]'" in cuda_provider().remedy
    monkeypatch.setattr(nvidia, "check_cuda_provider", lambda: None)
    done = SimpleNamespace(returncode=3, stdout='torch says this\n["no libcurand.so.10", "install it"]\n', stderr="")
    monkeypatch.setattr(providers.subprocess, "run", lambda *_, **__: done)
    found = cuda_provider()
    assert (found.state, found.detail, found.remedy) == ("fault", "no libcurand.so.10", "install it")
    done.returncode = 0
    assert cuda_provider().state == "ok"
    done.returncode, done.stderr = 1, "Traceback\nImportError: libcudnn.so.9\n"
    assert cuda_provider().detail == "load_cuda_provider fails: ImportError: libcudnn.so.9" and cuda_provider().remedy
    done.returncode, done.stderr = -11, ""
    assert "status -11" in cuda_provider().detail and cuda_provider().remedy


def test_a_provider_that_never_ends_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_WITHIN_S", 0.01)
    with pytest.raises(ProviderError, match=r"load_cuda_provider does not end within 0\.01 s; pip install"):
        providers.try_to_load("load_cuda_provider")


def test_a_provider_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderError, match=r"cannot be loaded: .*libonnxruntime_providers_cuda.so"):
        load_cuda_provider()
    assert capsys.readouterr().out == "", "a command's JSON is alone there"


@pytest.mark.parametrize(
    ("library", "missing", "remedy"),
    [
        ("_cuda.so", "libcublasLt.so.13", "--force-reinstall 'tridex[gpu]'"),
        ("_cuda.so", "libcuda.so.1", "install NVIDIA's driver"),
        ("libcudnn.so.9", "libcudnn.so.9", "--force-reinstall 'tridex[gpu]'"),
    ],
)
def test_a_provider_lacks_a_library(monkeypatch: pytest.MonkeyPatch, library: str, missing: str, remedy: str) -> None:
    def load(path: str, **_: object) -> None:
        if path.endswith(library):
            raise OSError(f"{missing}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(ProviderError) as raised:
        load_cuda_provider()
    assert missing in raised.value.problem and remedy in raised.value.remedy


def test_a_provider_that_needs_what_torch_brings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch is imported only where the libraries are not found without."""
    imported: list[str] = []
    tried: list[bool] = []
    really_import = builtins.__import__

    def importing(name: str, *arguments: Any, **options: Any) -> Any:
        imported.append(name)
        return really_import(name, *arguments, **options)

    def load() -> None:
        tried.append("torch" in imported)
        if not tried[-1]:
            raise ProviderError("no libcublas", "install it")

    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.setattr(encoding_providers, "_load_cuda_provider", load)
    providers.main("load_cuda_provider")
    assert tried == [False, True] and capsys.readouterr().out == ""


def test_memory_and_tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpus.install_gpu_packages(monkeypatch)
    (tmp_path / "encoder" / "1").mkdir(parents=True)
    found = nvidia.budget(None, "cuda:0", tmp_path, gpus.driver)
    assert found.state == "ok" and found.detail.endswith("GiB for collections")
    full = nvidia.budget(None, "cuda:0", tmp_path, lambda: gpus.driver(replace(gpus.H200, free_bytes=gpus.GIB)))
    assert full.state == "fault" and "nothing is left" in full.detail and "--memory-budget" in full.remedy
    assert nvidia.tensorrt("cpu").state == "fault" and "--tensorrt" in nvidia.tensorrt("cpu").remedy
