"""Checks of what is installed in this environment, and of tritonserver."""

from __future__ import annotations

from tridex.common.device import DeviceError, check_triton
from tridex.common.installed import versions

from .finding import Finding


def triton() -> Finding:
    """The Triton language, which the GPU's kernels are written in."""
    try:
        check_triton()
    except DeviceError as error:
        return Finding("triton", "missing", error.problem, error.remedy)
    return Finding("triton", "ok", versions(["triton"])["triton"])
