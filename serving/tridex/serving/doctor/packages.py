"""Checks of what is installed in this environment, and of tritonserver."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tridex.common.device import DeviceError, check_onnx_runtime, check_triton
from tridex.common.installed import ONNX_RUNTIMES, versions
from tridex.serving.server.errors import ServerError
from tridex.serving.server.runtime import find_runtime

from .finding import Finding


def tritonserver(extra: str) -> Finding:
    """The one that `tridex serve` would start, and its stub for this Python."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            runtime = find_runtime(Path(folder))
    except ServerError as error:
        return Finding("tritonserver", "missing", str(error), f"pip install 'tridex[{extra}]'")
    wheel = versions(["nvidia-pytriton"]).get("nvidia-pytriton")
    if runtime.encoder_config:
        return Finding("tritonserver", "ok", f"embedded in nvidia-pytriton {wheel}, with a stub for this Python")
    version = os.environ.get("TRITON_SERVER_VERSION", "of unknown version")  # NVIDIA's images set it
    return Finding("tritonserver", "ok", f"{version}, {runtime.binary}")


def numpy() -> Finding:
    """Its major version."""
    found = versions(["numpy"])["numpy"]
    if int(found.split(".")[0]) < 2:
        return Finding("numpy", "ok", found)
    return Finding("numpy", "fault", f"{found}: tritonserver's outputs would be empty", "pip install 'numpy<2'")


def onnx_runtime(extra: str) -> Finding:
    """One of the two distributions, which write the same folder."""
    what = "ONNX Runtime"
    found = versions(ONNX_RUNTIMES)
    if not found:
        return Finding(what, "missing", "is not installed", f"pip install 'tridex[{extra}]'")
    try:
        check_onnx_runtime()
    except DeviceError as error:
        return Finding(what, "fault", error.problem, error.remedy)
    ((name, version),) = found.items()
    try:
        providers = execution_providers()
    except (ImportError, OSError, AttributeError) as error:
        remedy = f"pip uninstall -y {name} && pip install 'tridex[{extra}]'"
        return Finding(what, "fault", f"{name} {version} cannot be imported: {error}", remedy)
    kinds = ", ".join(provider.removesuffix("ExecutionProvider") for provider in providers)
    return Finding(what, "ok", f"{name} {version}, built for {kinds}")


def execution_providers() -> list[str]:
    """ONNX Runtime's own names of what it can run on. Raises ImportError and others where it is broken."""
    from tridex.encoding import execution_providers as providers

    return providers()


def torch(extra: str) -> Finding:
    """Whether it is there and can be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "missing", str(error), f"pip install 'tridex[{extra}]'")
    cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    return Finding("torch", "ok", f"{torch.__version__}, {cuda}")


def triton() -> Finding:
    """The Triton language, which the GPU's kernels are written in."""
    try:
        check_triton()
    except DeviceError as error:
        return Finding("triton", "missing", error.problem, error.remedy)
    return Finding("triton", "ok", versions(["triton"])["triton"])
