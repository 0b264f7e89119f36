"""What to compute on, by the name that `--device` takes: "cpu", "cuda", "cuda:1" or "auto".

The one place that resolves such a name, and that says what a GPU needs to be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from .errors import RemediableError
from .installed import ONNX_RUNTIMES, cuda_of_onnx_runtime, cuda_of_torch, package_folder, versions
from .nvidia import Driver, DriverError, Gpu, ask_driver

CPU = "cpu"
AUTO = "auto"
EXPECTED = "cpu, cuda, cuda:N or auto"

LEAST_CAPABILITY = (8, 0)
"""The kernels are compiled and checked for sm_80 and newer ones."""

_NAME = re.compile(r"cpu|auto|cuda(?::(0|[1-9][0-9]{0,3}))?")

REINSTALL = "pip install --force-reinstall 'tridex[gpu]'"
"""For what is installed and cannot be loaded."""

GET_DRIVER = "install NVIDIA's driver for it; in a container: docker run --gpus all"
_OTHERWISE = "choose another by --device, or serve on the CPU: --device cpu"

AskDriver = Callable[[], Driver]

Load = Callable[[], None]
"""Loads what computes on a GPU, or raises DeviceError where that cannot be."""


class DeviceError(RemediableError):
    """A device cannot be used."""


def is_device(name: str) -> bool:
    """Whether it is the name of a device."""
    return _NAME.fullmatch(name) is not None


def is_one_device(name: str) -> bool:
    """Whether a device's name says which one it is, as "cpu" or "cuda:1": it needs no `resolve_device`."""
    return name == CPU or ":" in name


def number_of(name: str) -> int:
    """N of "cuda:N", 0 where the name has none."""
    match = _NAME.fullmatch(name)
    return int(match[1] or 0) if match else 0


class Chosen(NamedTuple):
    """The device of a name."""

    device: str
    """ "cpu" or "cuda:N"."""
    why_no_gpu: DeviceError | None = None
    """Why "auto" is the CPU."""


def resolve_device(name: str, ask: AskDriver = ask_driver, load: Load | None = None) -> str:
    """The device of a name, "cpu" or "cuda:N", as by `choose_device`, with its arguments and errors."""
    return choose_device(name, ask, load).device


def choose_device(name: str, ask: AskDriver = ask_driver, load: Load | None = None) -> Chosen:
    """The device of a name. "cuda" is "cuda:0"; "auto" is that where it can be used, or "cpu".

    Args:
        name: As `--device` takes it.
        ask: Asks NVIDIA's driver.
        load: The last of what a GPU has to pass, for whom encodes there: what is installed may not be loadable.

    Raises:
        DeviceError: It is no such name, or the device cannot be used here.
    """
    if not is_device(name):
        raise DeviceError(f"device is {name!r}", f"expected {EXPECTED}")
    check_onnx_runtime()
    if name == CPU:
        return Chosen(CPU)
    index = number_of(name)
    try:
        check_gpu(index, ask)
        if load:
            load()
    except DeviceError as error:
        if name == AUTO:
            return Chosen(CPU, error)
        raise
    return Chosen(f"cuda:{index}")


def check_gpu(index: int, ask: AskDriver = ask_driver) -> Gpu:
    """The GPU of that number, which can be used. Raises DeviceError where it cannot."""
    driver = working_driver(ask)
    if index >= len(driver.gpus):
        there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in driver.gpus)
        raise DeviceError(f"there is no cuda:{index} on this machine, which has {there}", _OTHERWISE)
    check_capability(driver.gpus[index])
    check_packages()
    return driver.gpus[index]


def working_driver(ask: AskDriver = ask_driver) -> Driver:
    """NVIDIA's driver, with a GPU, for the CUDA of torch. Raises DeviceError."""
    try:
        driver = ask()
    except DriverError as error:
        raise DeviceError(str(error), GET_DRIVER) from error
    if not driver.gpus:
        raise DeviceError("the NVIDIA driver shows no GPU", "unset CUDA_VISIBLE_DEVICES, or name one there that exists")
    needed = cuda_of_torch()
    # From one version of CUDA to the next of the same major one, what is compiled runs on older drivers, too.
    if needed and driver.cuda[0] < int(needed.split(".")[0]):
        known = ".".join(map(str, driver.cuda))
        raise DeviceError(
            f"the NVIDIA driver{f' {driver.version}' if driver.version else ''} is too old: it knows CUDA {known}, and "
            f"torch is built for {needed}",
            f"install a driver for CUDA {needed.split('.')[0]}, or torch for CUDA {driver.cuda[0]}",
        )
    return driver


def check_capability(gpu: Gpu) -> None:
    """Raises DeviceError where the kernels do not run on it."""
    if gpu.capability < LEAST_CAPABILITY:
        sm = "".join(map(str, gpu.capability))
        least = "".join(map(str, LEAST_CAPABILITY))
        raise DeviceError(f"cuda:{gpu.index}, {gpu.name}, is sm_{sm}; expected sm_{least} or newer", _OTHERWISE)


def check_packages() -> None:
    """Raises DeviceError where what computes on a GPU is not installed."""
    check_torch()
    check_triton()
    check_cuda_provider()


def check_torch() -> None:
    """Raises DeviceError where torch is built for the CPU alone."""
    if cuda_of_torch() is None:
        raise DeviceError("torch is built without CUDA", "pip uninstall -y torch && pip install 'tridex[gpu]'")


def check_triton() -> None:
    """Raises DeviceError where there is no compiler for the kernels."""
    if not versions(["triton"]):
        raise DeviceError("the Triton language is not installed", "pip install 'tridex[gpu]'")


def check_cuda_provider() -> None:
    """Raises DeviceError where ONNX Runtime has no provider for CUDA, or one for another CUDA than torch's.

    Whether it can be loaded is another question (tridex.encoding.load_cuda_provider).
    """
    folder = package_folder("onnxruntime")
    if folder is None or not (folder / "capi" / "libonnxruntime_providers_cuda.so").is_file():
        installed = " ".join(versions(ONNX_RUNTIMES))
        remove = f"pip uninstall -y {installed} && " if installed else ""
        raise DeviceError("ONNX Runtime has no provider for CUDA", f"{remove}pip install 'tridex[gpu]'")
    mine, torchs = cuda_of_onnx_runtime(), cuda_of_torch()
    if mine and torchs and mine.split(".")[0] != torchs.split(".")[0]:
        raise DeviceError(
            f"ONNX Runtime is built for CUDA {mine} and torch for {torchs}, whose libraries it loads",
            f"install torch for CUDA {mine.split('.')[0]}",
        )


def check_onnx_runtime() -> None:
    """Raises DeviceError where both distributions of ONNX Runtime are installed, whose files are mixed up then."""
    installed = versions(ONNX_RUNTIMES)
    if len(installed) > 1:
        extra = "serve" if cuda_of_torch() is None else "gpu"
        raise DeviceError(
            f"{' and '.join(f'{name} {version}' for name, version in installed.items())} overwrite each other; "
            "expected one of them",
            f"pip uninstall -y {' '.join(installed)} && pip install 'tridex[{extra}]'",
        )
