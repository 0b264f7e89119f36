"""Commands of other parts, found as entry points: name -> function. Those of the group "tridex.commands" stand beside
the client's own, those of "tridex.commands.index" below `tridex index`.

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

from tridex.common.terminal.exits import fail

_ONNX_RUNTIME = "pip install 'tridex[serve]', or 'tridex[gpu]' for an NVIDIA GPU"
"""No other extra brings it: there are two distributions of it, and they exclude each other."""

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
    install = _ONNX_RUNTIME if reason.name == "onnxruntime" else _install(point)
    return f"{point.name} needs packages that are not installed ({reason}): {install}"


def _install(point: EntryPoint) -> str:
    return f"pip install 'tridex[{next(iter(point.extras), point.name)}]'"
