"""Checks of the NVIDIA driver, the GPUs, and of what computes on them."""

from __future__ import annotations

from pathlib import Path

from tridex.common.device import (
    CPU,
    AskDriver,
    DeviceError,
    check_capability,
    check_cuda_provider,
    check_torch,
    working_driver,
)
from tridex.common.nvidia import Gpu
from tridex.serving.providers import try_to_load

from .finding import Finding

_GIB = 1 << 30


def driver_and_gpus(ask: AskDriver, index: int) -> tuple[Finding, list[Finding]]:
    """The driver, and each GPU, of which the one of that number is needed."""
    what = "NVIDIA driver"
    try:
        driver = working_driver(ask)
    except DeviceError as error:
        return _failed(what, error), []
    version = f"{driver.version}, " if driver.version else ""
    finding = Finding(what, "ok", f"{version}knows CUDA {'.'.join(map(str, driver.cuda))}")
    gpus = [_gpu(gpu, needed=gpu.index == index) for gpu in driver.gpus]
    if index >= len(gpus):
        gpus.append(Finding(f"cuda:{index}", "missing", "there is no such GPU", "choose another by --device"))
    return finding, gpus


def torch_on_cuda() -> Finding:
    """Whether torch computes on a GPU."""
    what = "torch on CUDA"
    try:
        check_torch()
    except DeviceError as error:
        return _failed(what, error)
    import torch

    if not torch.cuda.is_available():
        return Finding(what, "fault", f"{torch.__version__} sees no GPU", "mend driver and GPU first")
    return Finding(what, "ok", f"CUDA {torch.version.cuda}")


def cuda_provider() -> Finding:
    """Whether ONNX Runtime can encode on a GPU: loads its provider, in a process of its own."""
    what = "encoder on CUDA"
    try:
        check_cuda_provider()
    except DeviceError as error:
        return _failed(what, error)
    return _loaded(what, "load_cuda_provider")


def tensorrt(device: str) -> Finding:
    """Whether TensorRT, which the settings ask for, can encode searches."""
    what = "TensorRT"
    if device == CPU:
        return Finding(what, "fault", "is asked for, and the server would run on the CPU", "serve without --tensorrt")
    return _loaded(what, "load_tensorrt_provider")


def budget(wanted: int | None, device: str, repository: Path, ask: AskDriver) -> Finding:
    """What a GPU has for collections beside what the server itself needs, which depends on the exported encoder."""
    from tridex.serving.memory import choose_budget  # which reads exports

    what = f"memory of {device}"
    try:
        left = choose_budget(wanted, device, repository, ask)
    except DeviceError as error:
        return Finding(what, "fault", error.problem, error.remedy)
    return Finding(what, "ok", f"{left / _GIB:,.1f} GiB for collections")


def _gpu(gpu: Gpu, *, needed: bool) -> Finding:
    what = f"cuda:{gpu.index}"
    try:
        check_capability(gpu)
    except DeviceError as error:
        return Finding(what, "fault", error.problem, error.remedy, needed)
    free = "" if gpu.free_bytes is None else f"{gpu.free_bytes / _GIB:,.1f} of "
    detail = f"{gpu.name}, sm_{''.join(map(str, gpu.capability))}, {free}{gpu.total_bytes / _GIB:,.1f} GiB free"
    return Finding(what, "ok", detail, needed=needed)


def _loaded(what: str, loader: str) -> Finding:
    try:
        try_to_load(loader)
    except DeviceError as error:
        return Finding(what, "fault", error.problem, error.remedy)
    return Finding(what, "ok", "ONNX Runtime's provider can be loaded")


def _failed(what: str, error: DeviceError) -> Finding:
    return Finding(what, "missing", error.problem, error.remedy)
