"""Writes the reference that follows from the code: `<!-- generated: NAME -->` in a page becomes NAME's tables.

MkDocs calls `on_page_markdown` for every page (mkdocs.yml, `hooks`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from typer.cli import get_docs_for_click

from tridex.client.cli.app import create_app
from tridex.protocol import limits, models, parameters
from tridex.protocol.tensors import Ensemble, Model, Tensor

_ROOT = Path(__file__).parent.parent.parent
_MARK = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)
_LIST_OF_COMMANDS = re.compile(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n?")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its generated tables. Raises KeyError for a name that is none of `GENERATED`."""
    return _MARK.sub(lambda mark: GENERATED[mark[1]](), markdown)


def command_line() -> str:
    """Every command with its arguments and options, as typer documents it."""
    app = typer.main.get_command(create_app())
    pages = get_docs_for_click(obj=app, ctx=typer.Context(app), name="tridex")
    # Without the program's own list of commands, whose texts typer cuts short.
    commands = _LIST_OF_COMMANDS.sub("", pages[pages.index("## `tridex ") :])
    return commands.replace("* `--help`: Show this message and exit.\n", "").replace("**Options**:\n\n\n", "")


def served_models() -> str:
    """Every served model with its inputs and outputs, from `tridex.protocol.models`."""
    return "\n\n".join(_model(model) for model in (*models.MODELS, *models.ENSEMBLES))


def _model(model: Model | Ensemble) -> str:
    what = f"A name for `{model.steps[0].model.name}`" if isinstance(model, Ensemble) else "A model"
    internal = isinstance(model, Model) and model.internal
    about = f"{what}; at most {model.max_batch_size} rows in a request." + (
        " For the server's own models: requests of clients are refused." if internal else ""
    )
    rows = [
        (f"`{tensor.name}`" + (" (optional)" if tensor.optional else ""), kind, _type(tensor), _contents(tensor))
        for kind, tensors in (("input", model.inputs), ("output", model.outputs))
        for tensor in tensors
    ]
    return f"### {model.name}\n\n{about}\n\n" + _table(("tensor", "", "type", "contents"), rows)


def _type(tensor: Tensor) -> str:
    lengths = ", ".join("any" if length == -1 else str(length) for length in tensor.shape)
    return f"{tensor.dtype.value} [batch, {lengths}]"


def _contents(tensor: Tensor) -> str:
    """What `tridex.protocol.models` says of the tensor; of an optional twin, what it says of the original."""
    texts = _docstrings(models)
    constants = {name: value for name, value in vars(models).items() if isinstance(value, Tensor)}
    same = [name for name, value in constants.items() if value is tensor]
    named = [name for name, value in constants.items() if value.name == tensor.name]
    return texts.get((same or named)[0], "")


def request_parameters() -> str:
    """The request parameters of `tridex.protocol.parameters`."""
    rows = [
        (f"`{value}`", text)
        for name, text in _docstrings(parameters).items()
        if isinstance(value := getattr(parameters, name), str)
    ]
    return _table(("parameter", "meaning"), rows)


def request_limits() -> str:
    """The limits of `tridex.protocol.limits`."""
    rows = [
        (f"`{name}`", f"{value:,}", text)
        for name, text in _docstrings(limits).items()
        if isinstance(value := getattr(limits, name), int)
    ]
    return _table(("limit", "value", "of what"), rows)


def client() -> str:
    """The client's exported names but its errors, which have a page of their own, for mkdocstrings."""
    init = _ROOT / "client" / "tridex" / "client" / "__init__.py"
    imports = [node for node in ast.parse(init.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    errors = {name.name for node in imports if str(node.module).endswith(("errors", "common")) for name in node.names}
    first = ["Client", "AsyncClient"]
    names = first + [name for name in _exported(init) if name not in errors.union(first)]
    # The asynchronous client has the methods of the other one.
    options = {"AsyncClient": "    options: {members: false}\n"}
    return "\n".join(f"::: tridex.client.{name}\n{options.get(name, '')}" for name in names)


def packages() -> str:
    """The exported names of every package but the client, for mkdocstrings."""
    inits = sorted(_ROOT.glob("*/tridex/*/__init__.py"))
    exported = {init.parent: _exported(init) for init in inits if init.parent.name != "client"}
    return "\n\n".join(_package(folder, names) for folder, names in exported.items() if names)


def _package(folder: Path, exported: Sequence[str]) -> str:
    # Where a module has the name of what is exported, mkdocstrings sees the module alone.
    hidden = [name for name in exported if (folder / f"{name}.py").exists()]
    paths = [
        name if f"\ndef {name}(" not in (folder / f"{name}.py").read_text() else f"{name}.{name}" for name in hidden
    ]
    package = f"tridex.{folder.name}"
    further = [f"::: {package}.{path}\n    options: {{heading_level: 3}}\n" for path in paths]
    return "\n".join([f"## {package}\n\n::: {package}\n{_PACKAGE_OPTIONS}", *further])


def _exported(init: Path) -> list[str]:
    """A package's `__all__`, without importing it; empty where it has none."""
    for statement in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return list(ast.literal_eval(statement.value))
    return []


_PACKAGE_OPTIONS = """    options:
      heading_level: 3
      show_root_heading: false
      show_root_toc_entry: false
      inherited_members: false
      show_if_no_docstring: true
"""


def _docstrings(module: ModuleType) -> dict[str, str]:
    """The strings below a module's assignments, by the name assigned to."""
    body = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
    found = {}
    for statement, following in pairwise(body):
        if isinstance(statement, ast.Assign) and isinstance(following, ast.Expr):
            target, text = statement.targets[0], following.value
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[target.id] = text.value
    return found


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


GENERATED: dict[str, Callable[[], str]] = {
    "client": client,
    "command-line": command_line,
    "limits": request_limits,
    "packages": packages,
    "parameters": request_parameters,
    "served-models": served_models,
}
