"""Rows of CSV and TSV files, whose cells become numbers and booleans where all cells of a column are.

"007" and "1e5x" stay strings, and so does a column with one of them; an empty cell is no value. A date stays a string,
too, of which the server makes a time. The types follow from the whole file, so it is read twice.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, cast

from .columns import Columns
from .corpus import CorpusError, Row

_LONGEST_CELL = 16 << 20
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "false": False}


class SeparatedValues:
    """A file whose first row names its columns.

    Args:
        path: A .csv or .tsv file, perhaps .gz.
        columns: Which of its columns make a document.

    Raises:
        CorpusError: The first row is none.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns
        self._delimiter = "\t" if ".tsv" in path.suffixes else ","
        with self._opened() as file:
            header = next((row for _, row in self._records(file)), [])
        self._names = [name.strip() for name in header]
        if not all(self._names):
            raise CorpusError(f"{path}: the first row is {header}; expected the names of the columns")
        columns.check(self._names, str(path))

    def rows(self) -> Iterator[Row]:
        """Every document, or what is wrong with its row. Raises CorpusError where the rest cannot be read."""
        kinds = self._kinds
        for place, cells in self._cells():
            if isinstance(cells, CorpusError):
                yield Row(place, cells)
                continue
            values = {
                name: cell if name in self._as_text else _value(cell, kind)
                for name, kind, cell in zip(self._names, kinds, cells, strict=True)
                if cell or name in self._as_text
            }
            try:
                yield Row(place, self._columns.document(values, place))
            except CorpusError as error:
                yield Row(place, error)

    def count(self) -> int | None:
        """The number of rows."""
        return sum(1 for _ in self._cells())

    @property
    def _as_text(self) -> set[str]:
        """The columns that are read as they are."""
        return {self._columns.id or "", "_id", "id", "title", "text", *self._columns.text}

    @cached_property
    def _kinds(self) -> list[type | None]:
        """The type of each column, None where all of its cells are empty."""
        kinds: list[type | None] = [None] * len(self._names)
        for _, cells in self._cells():
            if not isinstance(cells, CorpusError):
                for i, cell in enumerate(cells):
                    if cell and kinds[i] is not str:
                        kinds[i] = _wider(kinds[i], _type_of(cell))
        return kinds

    def _cells(self) -> Iterator[tuple[str, Sequence[str] | CorpusError]]:
        """Place and cells of each row below the first."""
        with self._opened() as file:
            for number, (place, cells) in enumerate(self._records(file)):
                if number == 0:
                    continue
                if len(cells) != len(self._names):
                    yield (
                        place,
                        CorpusError(f"{place}: {len(cells)} values; expected {len(self._names)}, a column each"),
                    )
                else:
                    yield place, cells

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        opened = gzip.open if self._path.suffix == ".gz" else open
        with opened(self._path, "rt", encoding="utf-8-sig", newline="") as file:
            yield cast(TextIO, file)

    def _records(self, file: TextIO) -> Iterator[tuple[str, list[str]]]:
        """Place and cells of each row that is not blank."""
        reader = csv.reader(file, delimiter=self._delimiter, strict=True)
        line = 1
        try:
            while (cells := _next_row(reader)) is not None:
                if any(cells):
                    yield f"{self._path}, line {line}", cells
                line = reader.line_num + 1
        except (csv.Error, EOFError, OSError, ValueError) as error:
            raise CorpusError(f"{self._path}, line {line}: expected rows of text in UTF-8 ({error})") from error


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    """The reader's next row, None at the end."""
    # The limit is one for all readers of the process, whose other users keep theirs.
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def _type_of(cell: str) -> type:
    """The narrowest type of a cell."""
    if cell.lower() in _BOOLEANS:
        return bool
    if _INTEGER.fullmatch(cell):
        return int if -(2**63) <= int(cell) < 2**63 else str
    return float if _NUMBER.fullmatch(cell) and math.isfinite(float(cell)) else str


def _wider(known: type | None, kind: type) -> type:
    if known is None or known is kind:
        return kind
    return float if {known, kind} == {int, float} else str


def _value(cell: str, kind: type | None) -> Any:
    return _BOOLEANS[cell.lower()] if kind is bool else (kind or str)(cell)
