"""Checks of the NVIDIA driver, the GPUs, and of what computes on them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from tridex.common.installed import versions

from . import packages
from .finding import Finding

_LEAST_CAPABILITY = (8, 0)
"""The kernels are compiled and checked for sm_80 and newer ones."""

_LEAST_DRIVER = {12: (525, 60), 13: (580, 65)}
"""The first driver of each major version of CUDA: NVIDIA's table of "minor version compatibility"."""

_GET_DRIVER = "install NVIDIA's driver, 580 or newer; in a container: docker run --gpus all"
_FIELDS = "index,name,memory.total,compute_cap,driver_version"
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Gpu:
    """One that CUDA_VISIBLE_DEVICES does not hide."""

    index: int
    name: str
    memory_mib: int | None
    """None where nvidia-smi has no number, as for GPUs that share the host's memory."""
    capability: tuple[int, int]


@dataclass(frozen=True)
class Cuda:
    """What torch says: the version that it is built for, None without CUDA, and whether it can use a GPU."""

    version: str | None
    usable: bool


def cuda() -> Cuda:
    """Asks torch; no CUDA where it is not installed."""
    try:
        import torch
    except (ImportError, OSError):
        return Cuda(None, False)
    return Cuda(torch.version.cuda, torch.cuda.is_available())


def driver_and_gpus(built: Cuda) -> tuple[Finding, list[Finding]]:
    """The driver, and each GPU. Asks nvidia-smi, or torch where there is none, as in some containers."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return _no_driver("missing", "CUDA_VISIBLE_DEVICES hides every GPU", "unset CUDA_VISIBLE_DEVICES"), []
    tool = shutil.which("nvidia-smi")
    if tool is None:
        if built.usable:
            return Finding("NVIDIA driver", "ok", "of unknown version: there is no nvidia-smi"), [
                gpu_finding(gpu) for gpu in _gpus_of_torch()
            ]
        return _no_driver("missing", "there is no nvidia-smi on PATH", _GET_DRIVER), []
    command = [tool, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits", *(["-i", visible] if visible else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _no_driver("fault", f"nvidia-smi: {error}", _GET_DRIVER), []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    if done.returncode or not rows or any(len(row) != len(_FIELDS.split(",")) for row in rows):
        said = " ".join(f"{done.stdout} {done.stderr}".split())
        return _no_driver("fault", f"nvidia-smi ends with status {done.returncode}: {said}", _GET_DRIVER), []
    gpus = [_gpu(*row) for row in rows]
    return driver_finding(rows[0][-1], built), [gpu_finding(gpu) for gpu in gpus]


def driver_finding(version: str, built: Cuda) -> Finding:
    """Whether the driver is new enough for torch's CUDA."""
    least = _LEAST_DRIVER.get(int(built.version.split(".")[0])) if built.version else None
    if least and _numbers(version) < least:
        needs = ".".join(map(str, least))
        detail = f"{version} is too old for torch's CUDA {built.version}, which needs {needs} or newer"
        return Finding("NVIDIA driver", "fault", detail, f"install NVIDIA's driver {least[0]} or newer")
    return Finding("NVIDIA driver", "ok", version)


def gpu_finding(gpu: Gpu) -> Finding:
    """Whether the kernels run on it."""
    memory = "memory of the host" if gpu.memory_mib is None else f"{gpu.memory_mib / 1024:,.1f} GiB"
    detail = f"{gpu.name}, {memory}, sm_{gpu.capability[0]}{gpu.capability[1]}"
    if gpu.capability >= _LEAST_CAPABILITY:
        return Finding(f"GPU {gpu.index}", "ok", detail)
    remedy = "choose other GPUs by CUDA_VISIBLE_DEVICES, or serve on the CPU"
    return Finding(f"GPU {gpu.index}", "fault", f"{detail}; expected sm_80 or newer", remedy)


def cuda_of_torch(built: Cuda) -> Finding:
    """Whether torch computes on a GPU."""
    reinstall = "pip uninstall -y torch && pip install torch"
    if built.version is None:
        return Finding("torch on CUDA", "missing", "torch has no CUDA", reinstall)
    if not built.usable:
        detail = f"torch is built for CUDA {built.version} and sees no GPU"
        return Finding("torch on CUDA", "fault", detail, "mend driver and GPU first")
    return Finding("torch on CUDA", "ok", built.version)


def cuda_provider() -> Finding:
    """Whether ONNX Runtime can encode on a GPU."""
    try:
        providers = packages.execution_providers()
    except (ImportError, OSError, AttributeError):
        providers = []
    if "CUDAExecutionProvider" in providers:
        return Finding("encoder on CUDA", "ok", "CUDAExecutionProvider")
    installed = " ".join(versions(["onnxruntime", "onnxruntime-gpu"]))
    remedy = (f"pip uninstall -y {installed} && " if installed else "") + "pip install 'tridex[gpu]'"
    return Finding("encoder on CUDA", "missing", "ONNX Runtime has no CUDAExecutionProvider", remedy)


def _gpu(index: str, name: str, mib: str, capability: str, _driver: str) -> Gpu:
    return Gpu(int(index), name, int(mib) if mib.isdigit() else None, _numbers(capability))


def _gpus_of_torch() -> list[Gpu]:
    import torch

    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [Gpu(i, p.name, p.total_memory >> 20, (p.major, p.minor)) for i, p in enumerate(properties)]


def _no_driver(state: Literal["missing", "fault"], detail: str, remedy: str) -> Finding:
    return Finding("NVIDIA driver", state, detail, remedy)


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
