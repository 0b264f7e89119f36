"""Commands of other parts, found as entry points: name -> function. Those of the group "tridex.commands" stand beside
the client's own, those of "tridex.commands.index" below `tridex index`, those of "tridex.commands.store" below `tridex
store`.

A command whose packages are not installed stays in the help, and names the extra that installs them: the one of the
entry point, "module:function [extra]", or the one that has the name of the command.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from rich.markup import escape

from tridex.common.installed import versions
from tridex.common.terminal.exits import fail

BESIDE_GPU = {
    "serve": "gpu",
    "embedded": "gpu",
    "export": "gpu,export-tools",
    "compare": "gpu,compare-tools",
    "train": "gpu,train-tools",
    "try": "gpu,try-tools",
}
"""What to install beside onnxruntime-gpu, in place of the extras that bring ONNX Runtime for the CPU, which would
overwrite it."""

_ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_extensions(app: typer.Typer, group: str) -> None:
    """Adds every command of a group of entry points to `app`."""
    for point in entry_points(group=group):
        try:
            command = point.load()
        except ImportError as error:
            _add_stand_in(app, point, error)
        else:
            app.command(point.name)(_guarded(point, command))


def _guarded(point: EntryPoint, command: Callable[..., None]) -> Callable[..., None]:
    """A part may import its heavy packages only when it runs."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except ImportError as error:
            fail(_message(point, error), error)

    return run


def _add_stand_in(app: typer.Typer, point: EntryPoint, reason: ImportError) -> None:
    def stand_in() -> None:
        fail(_message(point, reason), reason)

    app.command(point.name, help=escape(f"Not installed: {_install(point)}"), context_settings=_ANY_ARGUMENTS)(stand_in)


def _message(point: EntryPoint, reason: ImportError) -> str:
    return f"{point.name} needs packages that are not installed ({reason}): {_install(point)}"


def _install(point: EntryPoint) -> str:
    extra = next(iter(point.extras), point.name)
    if versions(["onnxruntime-gpu"]):
        extra = BESIDE_GPU.get(extra, extra)
    return f"pip install 'tridex[{extra}]'"
