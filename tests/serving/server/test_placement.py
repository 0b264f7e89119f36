"""Where a server runs, what it takes there, and what is refused before anything starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import gpus
import pytest

from tridex.common.device import DeviceError
from tridex.common.nvidia import Driver
from tridex.encoding import ProviderError
from tridex.kernels.gpu.gluon import verdict
from tridex.serving import kernel_cache, memory
from tridex.serving.providers import try_to_load
from tridex.serving.server import placement
from tridex.serving.server.errors import ServerError
from tridex.serving.server.placement import Placement, place

GIB = 1 << 30


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model repository with an encoder of 100 MB."""
    version = tmp_path / "models" / "encoder" / "1"
    version.mkdir(parents=True)
    with (version / "model.onnx").open("wb") as graph:
        graph.truncate(100 * 10**6)
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> dict[str, DeviceError]:
    """GPU packages that can be loaded, all but the providers of these loaders."""
    gpus.install_gpu_packages(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    failing: dict[str, DeviceError] = {}

    def load(loader: str) -> None:
        if loader in failing:
            raise failing[loader]

    monkeypatch.setattr(placement, "try_to_load", load)
    return failing


def placed(models: Path, device: str, driver: Driver | None = None, budget: int | None = None) -> Placement:
    return place(device, budget, models, models.parent / "kernel-cache", lambda: driver or gpus.driver())


def test_the_cpu_sees_no_gpu(models: Path) -> None:
    placement = placed(models, "cpu")
    assert (placement.device, placement.memory_budget) == ("cpu", memory.host_budget())
    assert placement.device_of_models == "cpu"
    cache = models.parent / "kernel-cache"
    assert placement.environment == {
        "CUDA_VISIBLE_DEVICES": "",
        "NUMBA_CACHE_DIR": str(kernel_cache.cpu_folder(cache)),
    }
    assert placement.remark is None and cache.stat().st_mode & 0o777 == 0o700


def test_auto_says_why_it_is_the_cpu(models: Path) -> None:
    placement = placed(models, "auto", gpus.driver(gpus.T4))
    assert placement.device == "cpu" and "sm_75" in str(placement.remark)


@pytest.mark.parametrize(("given", "visible"), [(None, "1"), ("2,3", "3"), ("GPU-a, GPU-b", "GPU-b")])
def test_a_server_sees_the_gpu_that_it_runs_on(
    models: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, visible: str
) -> None:
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    placement = placed(models, "cuda:1", gpus.driver(gpus.H200, replace(gpus.H200, index=1)))
    cache = models.parent / "kernel-cache"
    assert (placement.device, placement.device_of_models) == ("cuda:1", "cuda:0")
    assert placement.environment == {"CUDA_VISIBLE_DEVICES": visible, "TRITON_CACHE_DIR": str(cache)}
    assert cache.stat().st_mode & 0o777 == 0o700


def test_the_default_budget_is_what_is_free_less_what_the_server_needs(models: Path) -> None:
    of_an_empty_gpu = placed(models, "cuda").memory_budget
    beside_another = placed(models, "cuda", gpus.driver(replace(gpus.H200, free_bytes=60 * GIB))).memory_budget
    assert of_an_empty_gpu - beside_another == 79 * GIB
    own = memory.own_bytes(gpus.H200, 100 * 10**6)
    a100 = replace(gpus.H200, capability=(8, 0))
    assert own - memory.own_bytes(a100, 100 * 10**6) == verdict.AT_ONCE * 600 * 10**6, "processes that compare kernels"
    assert of_an_empty_gpu + own == gpus.H200.free_bytes and 3 * GIB < own < 12 * GIB
    unknown = placed(models, "cuda", gpus.driver(replace(gpus.H200, free_bytes=None))).memory_budget
    assert unknown + own == gpus.H200.total_bytes


def test_a_budget_that_is_asked_for(models: Path) -> None:
    assert placed(models, "cuda", budget=10 * GIB).memory_budget == 10 * GIB
    assert placed(models, "cpu", budget=10 * GIB).memory_budget == 10 * GIB
    with pytest.raises(ServerError, match=r"the memory budget is 149\.3 GB; cuda:0 \(NVIDIA H200\) has .* at most 13"):
        placed(models, "cuda", budget=139 * GIB)


def test_a_gpu_that_another_server_has_taken(models: Path) -> None:
    full = gpus.driver(replace(gpus.H200, free_bytes=3 * GIB))
    with pytest.raises(ServerError, match=r"has 3\.2 GB of 150\.3 GB free; .*nothing is left .*--memory-budget"):
        placed(models, "cuda", full)


def test_a_gpu_that_there_is_not(models: Path) -> None:
    with pytest.raises(ServerError, match="there is no cuda:7 on this machine, which has cuda:0"):
        placed(models, "cuda:7")


def test_a_kernel_cache_of_others_is_not_run(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models.parent / "kernel-cache").mkdir(mode=0o777)
    placed(models, "cuda")
    assert (models.parent / "kernel-cache").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(ServerError, match="belongs to another user, and what lies in it is run"):
        placed(models, "cuda")


def test_a_kernel_cache_that_cannot_be_made(models: Path) -> None:
    (models.parent / "kernel-cache").touch()
    with pytest.raises(ServerError, match=r"kernel cache .* cannot be made: .*--kernel-cache"):
        placed(models, "cuda")
    assert placed(models, "cpu").environment == {"CUDA_VISIBLE_DEVICES": ""}, "a CPU's loops are compiled at each start"


def test_a_provider_that_cannot_be_loaded_is_found_before_a_start(models: Path, loads: dict[str, DeviceError]) -> None:
    loads["load_cuda_provider"] = ProviderError("libcurand.so.10: no such file", "pip install it")
    with pytest.raises(ServerError, match=r"libcurand\.so\.10: no such file; pip install it"):
        placed(models, "cuda")
    auto = placed(models, "auto")
    assert (auto.device, auto.remark) == ("cpu", "libcurand.so.10: no such file; pip install it")
    assert auto.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert placed(models, "cpu").device == "cpu"


def test_tensorrt_needs_a_gpu_and_its_libraries(models: Path, loads: dict[str, DeviceError]) -> None:
    def placed_with(device: str) -> Placement:
        return place(device, None, models, models.parent / "kernel-cache", gpus.driver, tensorrt=True)

    with pytest.raises(ServerError, match="--tensorrt is for a GPU, and the device is cpu; serve without --tensorrt"):
        placed_with("cpu")
    assert placed_with("cuda").device == "cuda:0"
    problem = "libnvinfer.so.10: cannot open shared object file"
    loads["load_tensorrt_provider"] = ProviderError(problem, "pip install 'tensorrt-cu13-libs==10.*'")
    with pytest.raises(ServerError, match="file; pip install 'tensorrt-cu13-libs"):
        placed_with("cuda")
    loads["load_cuda_provider"] = ProviderError("libcurand.so.10: no such file", "pip install it")
    with pytest.raises(ServerError, match=r"--tensorrt is for a GPU.*: libcurand.*file; pip install it"):
        placed_with("auto")


def test_a_provider_is_asked_for_in_another_process() -> None:
    """Here neither has been built."""
    with pytest.raises(ProviderError) as raised:
        try_to_load("load_tensorrt_provider")
    assert "provider for CUDA cannot be loaded" in raised.value.problem
    assert raised.value.remedy == "pip install --force-reinstall 'tridex[gpu]'"
