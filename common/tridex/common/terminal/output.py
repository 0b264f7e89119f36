"""Results on stdout: a table for people, one JSON value for programs."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tridex.common import strict_json

_SNIPPET_CHARACTERS = 240
_GAP = 2
"""Characters between two columns."""
_LONGEST_WORD = 20
"""A column of prose is at least as wide as its longest word, up to this: an address is folded within."""


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


def print_json(value: Any) -> None:
    """Prints dictionaries, lists and dataclasses as JSON on one line, numbers that are not finite as null."""
    with to_stdout():
        typer.echo(strict_json.dumps(value))


def print_table(
    names: Sequence[str], rows: Iterable[Sequence[str | int | float]], *, prose: Collection[str] = ()
) -> None:
    """Prints a table as wide as the terminal, in which no name and no number is folded or cut.

    Columns that do not fit beside the others follow in further tables, which repeat the first column.

    Args:
        names: The heads of the columns.
        rows: One value per column; numbers stand to the right, floats with three decimals.
        prose: The columns that may be folded into several lines.
    """
    kept = list(rows)
    columns = [_column(name, [row[i] for row in kept], name in prose) for i, name in enumerate(names)]
    with to_stdout():
        width = Console().width
        for group in _side_by_side(columns, width):
            # Wider than the terminal where two columns are: lines that the terminal wraps have all their characters.
            Console(width=max(width, _width(group))).print(_table(group, width), "")


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


@dataclass(frozen=True)
class _Column:
    name: str
    cells: list[str]
    is_number: bool
    is_prose: bool

    @property
    def widest(self) -> int:
        """Characters that it takes unfolded."""
        return max(map(cell_len, (self.name, *self.cells)))

    @property
    def least(self) -> int:
        """Characters that it takes at least."""
        if not self.is_prose:
            return self.widest
        words = " ".join((self.name, *self.cells)).split()
        return min(max(map(cell_len, words)), _LONGEST_WORD)


def _column(name: str, values: Sequence[str | int | float], is_prose: bool) -> _Column:
    is_number = bool(values) and not isinstance(values[0], str)
    return _Column(name, [_cell(value) for value in values], is_number, is_prose)


def _side_by_side(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """Groups of columns that fit into `width`, each with the first column in front."""
    first, *others = columns
    group = [first]
    for column in others:
        if len(group) > 1 and _width([*group, column]) > width:
            yield group
            group = [first]
        group.append(column)
    yield group


def _width(columns: Sequence[_Column]) -> int:
    """The least characters of a line."""
    return sum(column.least for column in columns) + _GAP * (len(columns) - 1)


def _table(columns: Sequence[_Column], width: int) -> Table:
    """Columns of prose share what is left of `width`, by what each lacks."""
    left = max(width - _width(columns), 0)
    lacking = sum(column.widest - column.least for column in columns)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for column in columns:
        lacks = column.widest - column.least
        share = min(lacks, left * lacks // lacking) if lacking else 0
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(column.name, justify=justify, width=column.least + share, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table


def _cell(value: str | int | float) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
