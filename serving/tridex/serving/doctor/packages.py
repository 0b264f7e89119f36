"""Checks of what is installed in this environment, and of tritonserver."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tridex.common.installed import versions
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
    found = versions(["onnxruntime", "onnxruntime-gpu"])
    named = " and ".join(f"{name} {version}" for name, version in found.items())
    remedy = f"pip uninstall -y {' '.join(found)} && pip install 'tridex[{extra}]'"
    if not found:
        return Finding("ONNX Runtime", "missing", "is not installed", f"pip install 'tridex[{extra}]'")
    if len(found) > 1:
        return Finding("ONNX Runtime", "fault", f"{named} overwrite each other; expected one of them", remedy)
    try:
        providers = execution_providers()
    except (ImportError, OSError, AttributeError) as error:
        return Finding("ONNX Runtime", "fault", f"{named} cannot be imported: {error}", remedy)
    kinds = ", ".join(provider.removesuffix("ExecutionProvider") for provider in providers)
    return Finding("ONNX Runtime", "ok", f"{named}, runs on {kinds}")


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
    found = versions(["triton"]).get("triton")
    if found is None:
        return Finding("triton", "missing", "the Triton language is not installed", "pip install 'tridex[gpu]'")
    return Finding("triton", "ok", found)
