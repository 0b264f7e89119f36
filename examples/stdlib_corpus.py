"""A real corpus that every machine has: the documentation of Python's standard library, as JSON lines.

One document per public module, class and function: the id is the qualified name, the text is the signature and the
docstring, the metadata hold module and kind.

    python -m examples.stdlib_corpus stdlib.jsonl
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# Importing these has side effects (opens a browser, prints a poem, needs a display), they are not for users, or they
# are another module under a second name (posix is os).
SKIPPED = {
    "posix",
    "antigravity",
    "this",
    "idlelib",
    "lib2to3",
    "test",
    "tkinter",
    "turtle",
    "turtledemo",
    "ensurepip",
    "venv",
}


def modules() -> Iterator[ModuleType]:
    """Every public module that can be imported here."""
    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_") and name not in SKIPPED:
            yield from _with_submodules(name)


def _with_submodules(name: str) -> Iterator[ModuleType]:
    try:
        module = importlib.import_module(name)
    except Exception:  # a module of another platform, or one left out of this build
        return
    yield module
    for child in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not child.name.startswith("_") and child.name not in SKIPPED | {"tests", "__main__"}:
            yield from _with_submodules(f"{name}.{child.name}")


def documents() -> Iterator[dict[str, object]]:
    """The corpus, ordered by module; ids are distinct."""
    seen: set[str] = set()
    for module in modules():
        for document in (_document(module, module.__name__, module.__name__), *_members(module)):
            if document and document["_id"] not in seen:
                seen.add(str(document["_id"]))
                yield document


def _members(module: ModuleType) -> Iterator[dict[str, object] | None]:
    for name in sorted(getattr(module, "__all__", None) or vars(module)):
        value = getattr(module, name, None)
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        home = getattr(value, "__module__", None) or module.__name__
        # What a module merely imports is documented where it is defined, unless that is a private module (as _io.open).
        if home == module.__name__ or "__all__" in vars(module) or home.startswith("_"):
            yield _document(value, f"{module.__name__}.{name}", module.__name__)


def _document(value: object, name: str, module: str) -> dict[str, object] | None:
    own = value.__doc__  # not an inherited one, which describes the parent
    text = inspect.cleandoc(own) if isinstance(own, str) else ""
    if not text:
        return None
    kind = "module" if inspect.ismodule(value) else "class" if inspect.isclass(value) else "function"
    return {"_id": name, "text": f"{name}{_signature(value)}\n{text}", "metadata": {"module": module, "kind": kind}}


class _Name(str):
    """A default value that prints as its name."""

    __slots__ = ()
    __repr__ = str.__str__


def _signature(value: object) -> str:
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    # Defaults that print this process's environment, path or addresses would differ from run to run.
    parameters = [
        parameter.replace(default=_Name("os.environ"))
        if parameter.default is os.environ
        else parameter.replace(default=_Name("sys.executable"))
        if parameter.default == sys.executable
        else parameter
        for parameter in signature.parameters.values()
    ]
    return re.sub(r" at 0x[0-9a-f]+", "", str(signature.replace(parameters=parameters)))


def write(path: Path) -> int:
    """Writes the corpus and returns the number of documents."""
    count = 0
    # Some modules print or warn when imported.
    with path.open("w") as file, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for document in documents():
            file.write(json.dumps(document) + "\n")
            count += 1
    return count


def load(path: Path) -> list[dict[str, Any]]:
    """The corpus as rows, written to `path` by an interpreter of its own that has imported nothing else.

    Some packages change the standard library when they are imported (setuptools replaces distutils), and the corpus
    must not depend on them.
    """
    subprocess.run([sys.executable, "-I", "-S", __file__, str(path)], check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "stdlib.jsonl")
    print(f"{write(target)} documents of Python {sys.version.split()[0]}'s standard library in {target}")
