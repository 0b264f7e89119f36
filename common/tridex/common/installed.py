"""Which distributions are installed, and what they were built for. Light: nothing of them is imported."""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
"""Two distributions that write the same folder: an environment has room for one of them."""


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those that are installed, as of onnxruntime and onnxruntime-gpu one is."""
    found = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def cuda_of_torch() -> str | None:
    """The CUDA that torch is built for; None for a build without, or where it is not installed."""
    return _said_in("torch", "version.py", "cuda")


def cuda_of_onnx_runtime() -> str | None:
    """The CUDA that ONNX Runtime is built for, likewise."""
    return _said_in("onnxruntime", "capi/build_and_package_info.py", "cuda_version")


def package_folder(name: str) -> Path | None:
    """Where a package is, that is not imported for it; None where it is not installed."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _said_in(package: str, file: str, name: str) -> str | None:
    """A variable of a module that only assigns some: importing its package takes seconds."""
    folder = package_folder(package)
    if folder is None or not (folder / file).is_file():
        return None
    said: Any = runpy.run_path(str(folder / file)).get(name)
    return said or None
