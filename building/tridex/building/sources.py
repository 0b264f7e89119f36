"""Where documents come from: JSON lines, Parquet files, BEIR folders. Read row by row, as often as needed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tridex.protocol import corpus
from tridex.protocol.corpus import CorpusError, Row

from .errors import BuildError

_ROWS_PER_READ = 256
_TEXT_COLUMNS = {"_id", "id", "title", "text", "metadata"}
_EXPECTED = "a .jsonl, .jsonl.gz or .parquet file, a BEIR folder with corpus.jsonl[.gz], or a folder of .parquet files"


class Source(Protocol):
    """Documents in files."""

    def rows(self) -> Iterator[Row]:
        """Every row from the first on, in the same order each time. Raises BuildError, OSError."""
        ...

    def count(self) -> int | None:
        """The number of rows; None where counting them takes as long as reading them."""
        ...


def open_source(path: Path) -> Source:
    """The source at `path`. Raises BuildError if that is nothing with documents in it."""
    if path.is_dir():
        if (file := corpus.jsonl_in(path)) is not None:
            return _JsonLines(file)
        if files := sorted(path.glob("*.parquet")):
            return _Parquet(files)
    elif not path.exists():
        raise BuildError(f"{path} does not exist; expected {_EXPECTED}")
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        return _JsonLines(path)
    elif path.suffix == ".parquet":
        return _Parquet([path])
    raise BuildError(f"{path}: expected {_EXPECTED}")


class _JsonLines:
    """One document per line; empty lines are skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> Iterator[Row]:
        try:
            yield from corpus.rows_of(corpus.read_lines(self._path))
        except CorpusError as error:
            raise BuildError(str(error)) from error

    def count(self) -> int | None:
        if self._path.suffix == ".gz":
            return None
        with self._path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())


class _Parquet:
    """Columns `_id` or `id`, `text`, optionally `title`, and metadata: every other column, and the fields of a struct
    column `metadata`. Raises BuildError if a file is no Parquet file or lacks a column."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        for file in files:
            try:
                columns = sorted(pq.read_schema(file).names)
            except (pa.ArrowException, OSError) as error:
                raise BuildError(f"{file}: expected a Parquet file ({error})") from error
            if "text" not in columns or not {"_id", "id"} & set(columns) or len(set(columns)) < len(columns):
                raise BuildError(f"{file} has the columns {columns}; expected distinct ones with text, and _id or id")

    def count(self) -> int | None:
        rows: int = sum(pq.read_metadata(file).num_rows for file in self._files)
        return rows

    def rows(self) -> Iterator[Row]:
        for path in self._files:
            number = 0
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(batch_size=_ROWS_PER_READ):
                        for row in _values(batch):
                            number += 1
                            yield _row(row, f"{path}, row {number}")
            except (pa.ArrowException, OSError) as error:
                raise BuildError(f"{path}, after row {number}: expected a whole Parquet file ({error})") from error


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | Exception]:
    """The rows of a batch; an error for each that Python cannot hold: a string that is not UTF-8, the year 20,000."""
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            return [error]
        return [row for i in range(batch.num_rows) for row in _values(batch.slice(i, 1))]


def _row(values: dict[str, Any] | Exception, place: str) -> Row:
    if isinstance(values, Exception):
        return Row(place, CorpusError(f"{place}: expected values that Python can hold ({values})"))
    try:
        return Row(place, corpus.document_of_row(values, _metadata(values, place), place))
    except CorpusError as error:
        return Row(place, error)


def _metadata(row: dict[str, Any], place: str) -> dict[str, Any]:
    given = row.get("metadata")
    if not (given is None or isinstance(given, dict)):
        raise CorpusError(f"{place}: expected a struct in the column metadata, got {given!r:.80}")
    others = {name: value for name, value in row.items() if name not in _TEXT_COLUMNS}
    return {name: _as_json(value) for name, value in {**(given or {}), **others}.items()}


def _as_json(value: Any) -> Any:
    """Times as ISO 8601; other values that JSON does not have are refused by the check."""
    return value.isoformat() if isinstance(value, (date, datetime)) else value
