"""What this installation of ONNX Runtime can run on, and whether its providers for a GPU can be loaded."""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
from pathlib import Path

import onnxruntime

from tridex.common.device import GET_DRIVER, REINSTALL
from tridex.common.installed import cuda_of_torch, package_folder

from .errors import ProviderError

_CAPI = Path(onnxruntime.__file__).parent / "capi"

_CUDNN = "libcudnn.so.9"
"""torch needs it to be imported; ONNX Runtime 1.31 loads without, and misses it in some operations."""


def execution_providers() -> list[str]:
    """ONNX Runtime's own names of the providers that it was built with, the preferred one first."""
    return list(onnxruntime.get_available_providers())


def load_cuda_provider() -> None:
    """Loads the provider for CUDA into this process, with the libraries of CUDA and cuDNN.

    They are those of NVIDIA's packages, as torch's are. torch, which takes seconds, is imported only where they are
    missing, as it may bring others. ONNX Runtime, which names the providers that it was built with, would run on the
    CPU where this fails, and only log it. No CUDA context is made, so it works without a GPU.

    Raises:
        ProviderError: It was not built, or one of its libraries is missing.
    """
    try:
        _load_cuda_provider()
    except ProviderError as error:
        if error.remedy == GET_DRIVER:  # which torch does not bring
            raise
        import torch  # noqa: F401

        _load_cuda_provider()


def _load_cuda_provider() -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find, among a command's JSON
        onnxruntime.preload_dlls()
    try:
        # The second takes symbols from the first; ONNX Runtime loads them in this way, too.
        _load(_CAPI / "libonnxruntime_providers_shared.so")
        _load(_CAPI / "libonnxruntime_providers_cuda.so")
        _load(_CUDNN)
    except OSError as error:
        remedy = GET_DRIVER if "libcuda.so" in str(error) else REINSTALL
        raise ProviderError(f"ONNX Runtime's provider for CUDA cannot be loaded: {error}", remedy) from error


def load_tensorrt_provider() -> None:
    """Loads the provider for TensorRT, and the one for CUDA, which runs what TensorRT does not.

    TensorRT's own libraries are those of its wheel, where that is installed, or of the system.

    Raises:
        ProviderError: As `load_cuda_provider`, or TensorRT is missing; with the command that mends it.
    """
    load_cuda_provider()
    wheel = package_folder("tensorrt_libs")
    try:
        for pattern in ("libnvinfer.so.*", "libnvonnxparser.so.*"):
            for library in sorted(wheel.glob(pattern)) if wheel else ():
                _load(library)
        _load(_CAPI / "libonnxruntime_providers_tensorrt.so")
    except OSError as error:
        raise ProviderError(
            f"ONNX Runtime's provider for TensorRT cannot be loaded: {error}",
            f"{_tensorrt_wheel(str(error))}, or serve without --tensorrt",
        ) from error


def _load(library: Path | str) -> None:
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def _tensorrt_wheel(error: str) -> str:
    """The command that installs the missing library, whose name has TensorRT's major version."""
    cuda = (cuda_of_torch() or "13").split(".")[0]
    major = re.search(r"libnv\w+\.so\.(\d+)", error)
    return f"pip install 'tensorrt-cu{cuda}-libs{f'=={major[1]}.*' if major else ''}'"
