"""What this installation of ONNX Runtime can run on, and whether its provider for CUDA can be loaded."""

from __future__ import annotations

import ctypes
from pathlib import Path

import onnxruntime

from .errors import ProviderError


def execution_providers() -> list[str]:
    """ONNX Runtime's own names of the providers that it was built with, the preferred one first."""
    return list(onnxruntime.get_available_providers())


def load_cuda_provider() -> None:
    """Loads the provider for CUDA into this process, with the libraries of CUDA and cuDNN that torch brings.

    ONNX Runtime, which names the providers that it was built with, would run on the CPU where this fails, and only log
    it. No CUDA context is made, so it works without a GPU.

    Raises:
        ProviderError: It was not built, or one of its libraries is missing.
    """
    import torch  # noqa: F401  # loads its own CUDA and cuDNN, of which there must be one in a process

    onnxruntime.preload_dlls()
    folder = Path(onnxruntime.__file__).parent / "capi"
    # The second takes symbols from the first; ONNX Runtime loads them in this way, too.
    for name in ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"):
        try:
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise ProviderError(f"ONNX Runtime's provider for CUDA cannot be loaded: {error}") from error
