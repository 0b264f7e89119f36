"""What each package exports can be imported, is in order, and is described in the reference."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/tridex/*/__init__.py"))
EXPORTING = [package for package in PACKAGES if hasattr(import_module(f"tridex.{package}"), "__all__")]


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions and modules, as ruff has them (RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("package", EXPORTING)
def test_exported_names_are_there_and_in_order(package: str) -> None:
    module = import_module(f"tridex.{package}")
    assert module.__all__ == sorted(set(module.__all__), key=order)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    # Another import may have put a submodule there; a package that loads its names must load it by itself.
    if load := vars(module).get("__getattr__"):
        assert all(load(name) for name in module.__all__ if isinstance(getattr(module, name), ModuleType))


@pytest.mark.parametrize("package", EXPORTING)
def test_the_reference_describes_every_exported_name(package: str, site: Path) -> None:
    pages = "".join(page.read_text() for page in (site / "reference").glob("*/index.html"))
    anchors = re.findall(r'id="tridex\.([\w.]+)"', pages)
    # An exported name may be described where it is defined: in a module of the package, or in common.
    described = {path.rpartition(".")[2] for path in anchors if path.partition(".")[0] in (package, "common")}
    assert set(import_module(f"tridex.{package}").__all__) - described == set()


def test_the_packages_that_others_build_on_export_names() -> None:
    assert {"building", "client", "common", "encoding", "export", "index", "kernels"} <= set(EXPORTING)
