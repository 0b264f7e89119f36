"""Machines with GPUs that this one does not have: a script stands for nvidia-smi."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tridex.serving.doctor import nvidia, packages
from tridex.serving.doctor.nvidia import Cuda, cuda_of_torch, cuda_provider, driver_and_gpus

CUDA_13 = Cuda("13.0", True)
H200 = "0, NVIDIA H200, 143771, 9.0, 580.159.03"
T4 = "1, Tesla T4, 15360, 7.5, 580.159.03"

Says = Callable[[str, int], Path]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Puts one on PATH, alone, that keeps its arguments beside itself, says something and ends with a status."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def says(text: str, status: int = 0) -> Path:
        tool = tmp_path / "nvidia-smi"
        arguments = tmp_path / "arguments"
        tool.write_text(f"#!/bin/sh\necho \"$@\" > '{arguments}'\nprintf '%s\\n' \"{text}\"\nexit {status}\n")
        tool.chmod(0o755)
        return arguments

    return says


def test_a_gpu_that_is_all_right(nvidia_smi: Says) -> None:
    nvidia_smi(H200, 0)
    driver, (gpu,) = driver_and_gpus(CUDA_13)
    assert (driver.state, driver.detail) == ("ok", "580.159.03")
    assert (gpu.what, gpu.state, gpu.detail) == ("GPU 0", "ok", "NVIDIA H200, 140.4 GiB, sm_90")


def test_a_gpu_before_sm_80_is_named(nvidia_smi: Says) -> None:
    nvidia_smi(f"{H200}\n{T4}", 0)
    _, (good, bad) = driver_and_gpus(CUDA_13)
    assert (good.state, bad.state) == ("ok", "fault")
    assert bad.detail == "Tesla T4, 15.0 GiB, sm_75; expected sm_80 or newer" and "CUDA_VISIBLE_DEVICES" in bad.remedy


def test_a_gpu_that_shares_the_hosts_memory(nvidia_smi: Says) -> None:
    nvidia_smi("0, NVIDIA GB10, [N/A], 12.1, 580.95.05", 0)
    assert driver_and_gpus(CUDA_13)[1][0].detail == "NVIDIA GB10, memory of the host, sm_121"


@pytest.mark.parametrize(
    ("version", "built", "state"),
    [
        ("580.65.06", "13.0", "ok"),
        ("575.57.08", "13.0", "fault"),
        ("575.57.08", "12.8", "ok"),
        ("470.256.02", "12.4", "fault"),
        ("470.256.02", None, "ok"),
    ],
)
def test_the_driver_must_know_the_cuda_of_torch(nvidia_smi: Says, version: str, built: str | None, state: str) -> None:
    nvidia_smi(H200.replace("580.159.03", version), 0)
    driver, _ = driver_and_gpus(Cuda(built, False))
    assert driver.state == state and version in driver.detail
    if state == "fault":
        assert "too old" in driver.detail and "or newer" in driver.remedy


@pytest.mark.usefixtures("nvidia_smi")
def test_no_driver() -> None:
    driver, gpus = driver_and_gpus(Cuda("13.0", False))
    assert (driver.state, gpus) == ("missing", []) and "driver" in driver.remedy


def test_a_driver_that_does_not_answer(nvidia_smi: Says) -> None:
    nvidia_smi("NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.", 9)
    driver, gpus = driver_and_gpus(Cuda("13.0", False))
    assert (driver.state, gpus) == ("fault", []) and "could not communicate" in driver.detail


def test_hidden_gpus(nvidia_smi: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = nvidia_smi(H200, 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert driver_and_gpus(CUDA_13)[1] and arguments.read_text().endswith("-i 0\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    driver, gpus = driver_and_gpus(Cuda("13.0", False))
    assert (driver.state, driver.remedy, gpus) == ("missing", "unset CUDA_VISIBLE_DEVICES", [])


@pytest.mark.usefixtures("nvidia_smi")
def test_torch_is_asked_where_there_is_no_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_gpus_of_torch", lambda: [nvidia.Gpu(0, "Tesla T4", 15360, (7, 5))])
    driver, (gpu,) = driver_and_gpus(CUDA_13)
    assert (driver.state, gpu.state) == ("ok", "fault")


@pytest.mark.parametrize(
    ("built", "state", "remedy"),
    [
        (Cuda(None, False), "missing", "pip install torch"),
        (Cuda("13.0", False), "fault", "driver"),
        (CUDA_13, "ok", ""),
    ],
)
def test_cuda_of_torch(built: Cuda, state: str, remedy: str) -> None:
    finding = cuda_of_torch(built)
    assert finding.state == state and remedy in finding.remedy


def test_the_cuda_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "execution_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(nvidia, "versions", lambda _: {"onnxruntime": "1.31.1"})
    assert cuda_provider().state == "missing"
    assert cuda_provider().remedy == "pip uninstall -y onnxruntime && pip install 'tridex[gpu]'"
    monkeypatch.setattr(packages, "execution_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert cuda_provider().state == "ok"
