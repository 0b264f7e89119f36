"""Which distributions are installed. Light: nothing of them is imported."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those that are installed, as of onnxruntime and onnxruntime-gpu one is."""
    found = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
