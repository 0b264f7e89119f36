"""Exit statuses, and the one line on standard error that a command ends with where it does not succeed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from tridex.common.errors import TridexError

from .output import printable

FAILED = 1
"""The command was understood and could not be carried out."""

USAGE = 2
"""An option or argument is wrong; Click's own status."""

INTERRUPTED = 130
"""Ctrl-C: 128 and the number of SIGINT, as in shells."""


def fail(message: str, cause: BaseException, status: int = FAILED) -> NoReturn:
    """Ends the command: one line on standard error, and the exit status."""
    typer.echo(f"tridex: {printable(message)}", err=True)
    raise typer.Exit(status) from cause


@contextmanager
def failing() -> Iterator[None]:
    """Around the work of a command: a TridexError or an OSError is one line on standard error and exit status 1."""
    try:
        yield
    except (TridexError, OSError) as error:
        fail(str(error), error)
