"""Machines with GPUs that this one does not have."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from types import SimpleNamespace

import gpus
import pytest

from tridex.common import device
from tridex.common.nvidia import Driver, DriverError
from tridex.encoding import ProviderError, load_cuda_provider
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
    missing = "libcudnn.so.9: cannot open shared object file"
    done = SimpleNamespace(returncode=1, stderr=f"Traceback\n{missing}\n")
    monkeypatch.setattr(providers, "subprocess", SimpleNamespace(run=lambda *_, **__: done))
    assert (cuda_provider().state, cuda_provider().detail) == ("fault", missing)
    done.returncode = 0
    assert cuda_provider().state == "ok"


def test_a_provider_that_is_not_there() -> None:
    with pytest.raises(ProviderError, match=r"cannot be loaded: .*libonnxruntime_providers_cuda.so"):
        load_cuda_provider()


def test_a_provider_lacks_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str, **_: object) -> None:
        if path.endswith("_cuda.so"):
            raise OSError("libcublasLt.so.13: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(ProviderError, match=r"libcublasLt\.so\.13"):
        load_cuda_provider()
