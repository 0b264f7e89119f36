"""Packages that import a module only when one of its names is first used.

The command line imports every installed package for its commands, and torch or the index take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(package: str, exports: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A package's `__getattr__` (PEP 562).

    Args:
        package: The package's `__name__`.
        exports: The exported names of each submodule; no name where the submodule itself is exported.
    """
    modules = {name: module for module, names in exports.items() for name in names}
    submodules = {module for module, names in exports.items() if not names}

    def getattr_(name: str) -> Any:
        if name in submodules:
            return import_module(f".{name}", package)
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{modules[name]}", package), name)

    return getattr_
