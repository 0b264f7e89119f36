"""Streams that cannot take what a command prints: a full disk, a reader that is gone, an encoding with few characters.

`run` is around every command, and handles what they do not.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO, cast

import typer

from .exits import FAILED
from .output import to_stdout
from .progress import BestEffort


def run(command: Callable[[], object]) -> None:
    """Runs a command. An OSError that it does not handle, as of printing, is one line on stderr and exit status 1.

    Characters that standard output cannot encode are printed as question marks; standard error escapes them by itself.
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
        if error.errno != errno.EPIPE:  # a reader such as head has read enough
            typer.echo(f"tridex: {error}", err=True)
        sys.exit(FAILED)
    finally:
        for stream in (sys.stdout, stderr):
            _let_go(stream)


def _let_go(stream: TextIO | None) -> None:
    """Flushes a stream, into /dev/null where that fails: the interpreter would try again when it ends, and change the
    exit status."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
