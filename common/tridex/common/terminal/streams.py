"""Streams that cannot take what a command prints: a full disk, a reader that is gone, an encoding with few characters.

One place for all commands: `run` is around them, and what escapes them ends there.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import typer

from .progress import BestEffort


def run(command: Callable[[], object]) -> None:
    """Runs a command. An OSError that it does not handle, as of printing, is one line on stderr and exit status 1.

    Characters that standard output does not have are printed as question marks; standard error escapes them by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    stderr = sys.stderr
    if stderr is not None:
        sys.stderr = cast(TextIO, BestEffort(stderr))
    try:
        try:
            command()
        finally:
            with to_stdout():
                pass
    except OSError as error:
        if error.errno != errno.EPIPE:  # a reader such as head has all that it wanted
            typer.echo(f"tridex: {error}", err=True)
        sys.exit(1)
    finally:
        for stream in (sys.stdout, stderr):
            _let_go(stream)


@contextmanager
def to_stdout() -> Iterator[None]:
    """Prints at once, and names the stream in the OSError where that fails."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        error.filename = "standard output"
        raise


def _let_go(stream: TextIO | None) -> None:
    """Empties a stream's buffer, into nothing where the stream does not take it: the interpreter would try once more
    when it ends, and change the exit status."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
