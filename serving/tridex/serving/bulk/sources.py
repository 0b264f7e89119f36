"""Where documents come from: JSON lines, Parquet files, BEIR folders. Read row by row, as often as wanted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tridex.protocol import corpus
from tridex.protocol.corpus import CorpusDocument, CorpusError

from .errors import BuildError

_ROWS_PER_READ = 256
_TEXT_COLUMNS = {"_id", "id", "title", "text", "metadata"}
_EXPECTED = "a .jsonl, .jsonl.gz or .parquet file, a BEIR folder with corpus.jsonl[.gz], or a folder of .parquet files"


class Row(NamedTuple):
    """A row of a source."""

    place: str
    """File and line, or row, counted from 1."""
    document: CorpusDocument | CorpusError
    """The document, or what is wrong with the row."""


class Source(Protocol):
    """Documents in files."""

    def rows(self) -> Iterator[Row]:
        """Every row from the first on, in the same order each time. Raises BuildError, OSError."""
        ...


def open_source(path: Path) -> Source:
    """What lies at `path`. Raises BuildError where that is nothing with documents in it."""
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
    """A document a line; empty lines are passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> Iterator[Row]:
        try:
            for number, line in enumerate(corpus.read_lines(self._path), 1):
                if line.strip():
                    place = f"{self._path}, line {number}"
                    try:
                        yield Row(place, corpus.document_of_line(line, place))
                    except CorpusError as error:
                        yield Row(place, error)
        except CorpusError as error:
            raise BuildError(str(error)) from error


class _Parquet:
    """Columns `_id` or `id`, `text`, perhaps `title`, and metadata: every other column, and the fields of a struct
    column `metadata`. Raises BuildError where a file is no Parquet file or lacks a column."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        for file in files:
            try:
                columns = set(pq.read_schema(file).names)
            except (pa.ArrowInvalid, OSError) as error:
                raise BuildError(f"{file}: expected a Parquet file ({error})") from error
            if "text" not in columns or not columns & {"_id", "id"}:
                raise BuildError(f"{file} has the columns {sorted(columns)}; expected text, and _id or id")

    def rows(self) -> Iterator[Row]:
        for path in self._files:
            number = 0
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS_PER_READ):
                    for row in batch.to_pylist():
                        number += 1
                        place = f"{path}, row {number}"
                        try:
                            yield Row(place, corpus.document_of_row(row, _metadata(row, place), place))
                        except CorpusError as error:
                            yield Row(place, error)


def _metadata(row: dict[str, Any], place: str) -> dict[str, Any]:
    given = row.get("metadata")
    if not (given is None or isinstance(given, dict)):
        raise CorpusError(f"{place}: expected a struct in the column metadata, got {given!r:.80}")
    others = {name: value for name, value in row.items() if name not in _TEXT_COLUMNS}
    return {name: _as_json(value) for name, value in {**(given or {}), **others}.items()}


def _as_json(value: Any) -> Any:
    """Times as ISO 8601; what else JSON has not is refused by the check."""
    return value.isoformat() if isinstance(value, (date, datetime)) else value
