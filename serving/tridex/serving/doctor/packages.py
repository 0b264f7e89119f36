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


def triton() -> Finding:
    """The Triton language, which the GPU's kernels are written in."""
    try:
        check_triton()
    except DeviceError as error:
        return Finding("triton", "missing", error.problem, error.remedy)
    return Finding("triton", "ok", versions(["triton"])["triton"])
