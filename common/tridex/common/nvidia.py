"""What NVIDIA's driver says of itself and of the GPUs: asked through its own libraries, before anything uses a GPU.

Nothing is imported for it, and no CUDA context is made, which would take half a gigabyte of the GPU.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass

from .errors import TridexError

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""

_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE: also where CUDA_VISIBLE_DEVICES hides every GPU."""

_TEXT_BYTES = 256


class DriverError(TridexError):
    """There is no driver, or it does not work."""


@dataclass(frozen=True)
class Gpu:
    """One that CUDA_VISIBLE_DEVICES does not hide."""

    index: int
    """As CUDA counts them, and torch after it: the N of cuda:N."""
    name: str
    capability: tuple[int, int]
    """Compute capability: (9, 0) is sm_90."""
    total_bytes: int
    free_bytes: int | None
    """None where the driver has no number, as for GPUs that share the host's memory."""


@dataclass(frozen=True)
class Driver:
    """A driver that works."""

    cuda: tuple[int, int]
    """The newest CUDA that it supports."""
    version: str | None
    """Its own version, None where NVML is not installed beside it."""
    gpus: tuple[Gpu, ...]


class _Cuda:
    """libcuda, the driver's own library."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise DriverError(f"there is no NVIDIA driver: {error}") from error

    def call(self, function: str, *arguments: object, also: int = 0) -> int:
        """The function's status, 0 or `also`. Raises DriverError with what CUDA says of another one."""
        status: int = getattr(self._library, function)(*arguments)
        if status not in (0, also):
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            said = (text.value or b"unknown error").decode()
            raise DriverError(f"the NVIDIA driver does not work: {function} says {status}, {said}")
        return status

    def number(self, function: str, *arguments: object) -> int:
        """What a function writes to the int that its first argument points to."""
        value = ctypes.c_int()
        self.call(function, ctypes.byref(value), *arguments)
        return value.value

    def text(self, function: str, device: int) -> str:
        """What a function writes as text of a device."""
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        self.call(function, buffer, _TEXT_BYTES, device)
        return buffer.value.decode()


class _Memory(ctypes.Structure):
    """nvmlMemory_t of nvml.h."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Nvml:
    """NVML, the library behind nvidia-smi: free memory without a context. None of it is needed."""

    def __init__(self) -> None:
        self._library: ctypes.CDLL | None = None
        with suppress(OSError):
            library = ctypes.CDLL("libnvidia-ml.so.1")
            if library.nvmlInit_v2() == 0:
                self._library = library

    def driver_version(self) -> str | None:
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        if self._library is None or self._library.nvmlSystemGetDriverVersion(buffer, _TEXT_BYTES):
            return None
        return buffer.value.decode()

    def free_bytes(self, pci_bus_id: str) -> int | None:
        device, memory = ctypes.c_void_p(), _Memory()
        if (
            self._library is None
            or self._library.nvmlDeviceGetHandleByPciBusId_v2(pci_bus_id.encode(), ctypes.byref(device))
            or self._library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
        ):
            return None
        return int(memory.free)


def ask_driver() -> Driver:
    """Asks the driver that is installed.

    Raises:
        DriverError: There is none, or it says that it does not work.
    """
    cuda, nvml = _Cuda(), _Nvml()
    has_gpus = cuda.call("cuInit", 0, also=_NO_DEVICE) == 0
    version = cuda.number("cuDriverGetVersion")
    count = cuda.number("cuDeviceGetCount") if has_gpus else 0
    gpus = tuple(_gpu(cuda, nvml, index) for index in range(count))
    return Driver((version // 1000, version % 1000 // 10), nvml.driver_version(), gpus)


def _gpu(cuda: _Cuda, nvml: _Nvml, index: int) -> Gpu:
    device = cuda.number("cuDeviceGet", index)
    total = ctypes.c_size_t()
    cuda.call("cuDeviceTotalMem_v2", ctypes.byref(total), device)
    free = nvml.free_bytes(cuda.text("cuDeviceGetPCIBusId", device))
    return Gpu(
        index,
        cuda.text("cuDeviceGetName", device),
        (
            cuda.number("cuDeviceGetAttribute", _CAPABILITY_MAJOR, device),
            cuda.number("cuDeviceGetAttribute", _CAPABILITY_MINOR, device),
        ),
        total.value,
        # Of a part of a GPU (MIG), NVML says what is free on the whole.
        None if free is None else min(free, total.value),
    )
