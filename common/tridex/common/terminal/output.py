"""Results on stdout: a table for people, one JSON value for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tridex.common import strict_json

from .streams import to_stdout

_SNIPPET_CHARACTERS = 240


def print_json(value: Any) -> None:
    """Prints dictionaries, lists and dataclasses as JSON on one line, numbers that are not finite as null."""
    with to_stdout():
        typer.echo(strict_json.dumps(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | int | float]], caption: str = "") -> None:
    """Prints a table, numbers to the right and with three decimals where they are floats."""
    table = Table(box=SIMPLE_HEAD, caption=printable(caption), caption_justify="left", pad_edge=False)
    kept = [list(row) for row in rows]
    for index, name in enumerate(columns):
        number = bool(kept) and not isinstance(kept[0][index], str)
        table.add_column(name, justify="right" if number else "left", no_wrap=number)
    for row in kept:
        table.add_row(*(Text(_cell(value)) for value in row))
    with to_stdout():
        Console().print(table)


def print_line(text: str) -> None:
    """Prints a sentence, whatever is in it."""
    with to_stdout():
        typer.echo(printable(text))


def printable(text: str) -> str:
    """`text` on one line and without control characters: a stored document must not steer the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def snippet(text: str | None) -> str:
    """The beginning of a document's text."""
    line = printable(text or "")
    return line if len(line) <= _SNIPPET_CHARACTERS else line[: _SNIPPET_CHARACTERS - 1] + "…"


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
