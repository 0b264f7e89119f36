"""Which device a name stands for, on machines with drivers, GPUs and packages that this one does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gpus
import pytest

from tridex.common import device
from tridex.common.device import DeviceError, choose_device, is_device, resolve_device
from tridex.common.nvidia import Driver, DriverError


def no_driver() -> Driver:
    raise DriverError("there is no NVIDIA driver: libcuda.so.1: cannot open shared object file")


@pytest.fixture
def gpu_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.install_gpu_packages(monkeypatch)


@pytest.mark.usefixtures("gpu_packages")
@pytest.mark.parametrize(
    ("name", "is_"), [("cpu", "cpu"), ("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")]
)
def test_names(name: str, is_: str) -> None:
    two = gpus.driver(gpus.H200, replace(gpus.H200, index=1))
    assert resolve_device(name, lambda: two) == is_


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:01", "CUDA", "cpu:0", ""])
def test_what_is_no_name(name: str) -> None:
    assert not is_device(name)
    with pytest.raises(DeviceError, match=r"device is '.*'; expected cpu, cuda, cuda:N or auto"):
        resolve_device(name, gpus.driver)


def problem(name: str, ask: device.AskDriver) -> DeviceError:
    with pytest.raises(DeviceError) as raised:
        resolve_device(name, ask)
    assert raised.value.remedy
    return raised.value


@pytest.mark.usefixtures("gpu_packages")
def test_a_gpu_that_there_is_not() -> None:
    error = problem("cuda:7", gpus.driver)
    assert error.problem == "there is no cuda:7 on this machine, which has cuda:0 (NVIDIA H200)"


@pytest.mark.usefixtures("gpu_packages")
@pytest.mark.parametrize(
    ("ask", "says", "remedy"),
    [
        (no_driver, "there is no NVIDIA driver", "docker run --gpus all"),
        (lambda: Driver((13, 0), None, ()), "shows no GPU", "unset CUDA_VISIBLE_DEVICES"),
        (lambda: gpus.driver(cuda=(12, 8)), "too old: it knows CUDA 12.8, and torch is built for 13.0", "CUDA 13"),
        (lambda: gpus.driver(gpus.T4), "Tesla T4, is sm_75; expected sm_80 or newer", "--device cpu"),
    ],
    ids=["no driver", "no GPU", "an old driver", "an old GPU"],
)
def test_a_gpu_that_cannot_be_used_is_told_and_auto_is_the_cpu(ask: device.AskDriver, says: str, remedy: str) -> None:
    error = problem("cuda", ask)
    assert says in error.problem and remedy in error.remedy
    assert resolve_device("auto", ask) == "cpu"


@pytest.mark.usefixtures("gpu_packages")
def test_what_is_installed_and_cannot_be_loaded() -> None:
    error = DeviceError("libcurand.so.10: no such file", "pip install it")

    def load() -> None:
        raise error

    assert choose_device("auto", gpus.driver, load) == ("cpu", error)
    assert choose_device("auto", gpus.driver, lambda: None) == ("cuda:0", None)
    assert choose_device("cpu", gpus.driver, load) == ("cpu", None)
    with pytest.raises(DeviceError, match=r"libcurand.*; pip install it"):
        resolve_device("cuda", gpus.driver, load)


@pytest.mark.usefixtures("gpu_packages")
def test_a_driver_of_an_older_minor_version_runs_what_is_built_for_a_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_of_torch", lambda: "13.2")
    assert resolve_device("cuda", lambda: gpus.driver(cuda=(13, 0))) == "cuda:0"


def test_packages_for_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("auto", gpus.driver) == "cpu"
    assert problem("cuda", gpus.driver).remedy == "pip uninstall -y torch && pip install 'tridex[gpu]'"
    monkeypatch.setattr(device, "cuda_of_torch", lambda: "13.0")
    monkeypatch.setattr(device, "versions", lambda names: {"onnxruntime": "1.31.1"} if "onnxruntime" in names else {})
    assert problem("cuda", gpus.driver).problem == "the Triton language is not installed"
    monkeypatch.setattr(device, "check_triton", lambda: None)
    assert problem("cuda", gpus.driver).problem == "ONNX Runtime has no provider for CUDA"
    assert problem("cuda", gpus.driver).remedy == "pip uninstall -y onnxruntime && pip install 'tridex[gpu]'"


def test_an_onnx_runtime_for_another_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").touch()
    monkeypatch.setattr(device, "package_folder", lambda _: tmp_path)
    monkeypatch.setattr(device, "cuda_of_torch", lambda: "12.8")
    monkeypatch.setattr(device, "cuda_of_onnx_runtime", lambda: "13.0")
    with pytest.raises(DeviceError, match=r"ONNX Runtime is built for CUDA 13\.0 and torch for 12\.8"):
        device.check_cuda_provider()
    monkeypatch.setattr(device, "cuda_of_torch", lambda: "13.2")
    device.check_cuda_provider()


@pytest.mark.parametrize("name", ["cpu", "auto", "cuda"])
def test_two_onnx_runtimes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(device, "versions", lambda names: dict.fromkeys(names, "1.31.1"))
    error = problem(name, gpus.driver)
    assert error.problem.startswith("onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 overwrite each other")
    assert error.remedy == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'tridex[serve]'"
