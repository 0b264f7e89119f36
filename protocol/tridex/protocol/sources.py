"""Where documents come from: JSON, CSV and TSV, Parquet, BEIR folders. Read row by row, as often as needed.

    FILE.jsonl FILE.ndjson      a JSON object per line                       also .gz
    FILE.json                   a JSON array of objects, or as .jsonl        also .gz
    FILE.csv FILE.tsv           the first row names the columns              also .gz
    FILE.parquet                needs pyarrow
    FOLDER                      BEIR's, with corpus.jsonl[.gz]; or one of .parquet files

Byte-order marks, CRLF and blank lines do not matter.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import corpus
from .columns import Columns
from .corpus import CorpusError, Line, Row
from .separated_values import SeparatedValues

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_READ = 256
_BOM = b"\xef\xbb\xbf"
_EXPECTED = (
    "a .jsonl, .json, .csv, .tsv or .parquet file, a BEIR folder with corpus.jsonl[.gz], or a folder of .parquet files"
)


class Source(Protocol):
    """Documents in files."""

    def rows(self) -> Iterator[Row]:
        """Every row from the first on, in the same order each time. Raises CorpusError, OSError."""
        ...

    def count(self) -> int | None:
        """The number of rows; None where they can be read only once, as from a pipe, and where the file is damaged,
        which `rows` reports."""
        ...


def open_source(path: Path, columns: Columns | None = None) -> Source:
    """The source at `path`.

    Args:
        path: A file or a folder.
        columns: Which columns make a document; those of BEIR where None.

    Raises:
        CorpusError: It is nothing with documents in it, or has not the columns. OSError.
    """
    columns = columns or Columns()
    if path.is_dir():
        if (file := corpus.jsonl_in(path)) is not None:
            return _JsonLines(file, columns)
        if files := sorted(path.glob("*.parquet")):
            return _Parquet(files, columns)
        raise CorpusError(f"{path}: expected {_EXPECTED}")
    if not path.exists():
        raise CorpusError(f"{path} does not exist; expected {_EXPECTED}")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix in (".jsonl", ".ndjson") or not path.is_file():
        return _JsonLines(path, columns)
    if suffix == ".json":
        return _JsonArray(path, columns) if _begins_with(path, b"[") else _JsonLines(path, columns)
    if suffix in (".csv", ".tsv"):
        return SeparatedValues(path, columns)
    if path.suffix == ".parquet":
        return _Parquet([path], columns)
    raise CorpusError(f"{path}: expected {_EXPECTED}")


def rows_of(lines: Iterable[Line], columns: Columns) -> Iterator[Row]:
    """The document of each line of JSON, or what is wrong with it."""
    for number, (place, content) in enumerate(lines):
        try:
            value = corpus.value_of_line(content.removeprefix(_BOM) if number == 0 else content, place)
            yield _row(value, place, columns)
        except CorpusError as error:
            yield Row(place, error)


class _JsonLines:
    """One document per line; empty lines are skipped."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns

    def rows(self) -> Iterator[Row]:
        yield from rows_of(corpus.read_lines(self._path), self._columns)

    def count(self) -> int | None:
        if not self._path.is_file():
            return None
        try:
            return sum(1 for _ in corpus.read_lines(self._path))
        except CorpusError:
            return None


class _JsonArray:
    """A file that is one JSON array of objects; it is read whole."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns

    def rows(self) -> Iterator[Row]:
        for number, value in enumerate(self._values(), 1):
            yield _row(value, f"{self._path}, row {number}", self._columns)

    def count(self) -> int | None:
        try:
            return len(self._values())
        except CorpusError:
            return None

    def _values(self) -> list[Any]:
        with gzip.open(self._path) if self._path.suffix == ".gz" else self._path.open("rb") as file:
            try:
                values: list[Any] = json.loads(file.read().removeprefix(_BOM))
            except (ValueError, RecursionError, EOFError) as error:
                raise CorpusError(f"{self._path}: expected a JSON array in UTF-8 ({error})") from error
        return values


class _Parquet:
    """Columns of Parquet files. Raises CorpusError where pyarrow is missing, a file is no Parquet file or has not the
    columns."""

    def __init__(self, files: list[Path], columns: Columns) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise CorpusError(f"{files[0]}: Parquet needs pyarrow (pip install pyarrow): {error}") from error
        self._arrow_errors = (pa.ArrowException, OSError)
        self._files = files
        self._columns = columns
        for file in files:
            try:
                names = pq.read_schema(file).names
            except self._arrow_errors as error:
                raise CorpusError(f"{file}: expected a Parquet file ({error})") from error
            columns.check(names, str(file))

    def count(self) -> int | None:
        import pyarrow.parquet as pq

        rows: int = sum(pq.read_metadata(file).num_rows for file in self._files)
        return rows

    def rows(self) -> Iterator[Row]:
        import pyarrow.parquet as pq

        for path in self._files:
            number = 0
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(batch_size=_ROWS_PER_READ):
                        for row in _values(batch):
                            number += 1
                            yield _row(row, f"{path}, row {number}", self._columns)
            except self._arrow_errors as error:
                raise CorpusError(f"{path}, after row {number}: expected a whole Parquet file ({error})") from error


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | Exception]:
    """The rows of a batch; an error for each that Python cannot hold: a string that is not UTF-8, the year 20,000."""
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except (ValueError, OverflowError) as error:  # pyarrow's ArrowInvalid is a ValueError
        if batch.num_rows == 1:
            return [error]
        return [row for i in range(batch.num_rows) for row in _values(batch.slice(i, 1))]


def _row(value: Any, place: str, columns: Columns) -> Row:
    if isinstance(value, Exception):
        return Row(place, CorpusError(f"{place}: expected values that Python can hold ({value})"))
    if not isinstance(value, dict):
        return Row(place, CorpusError(f"{place}: expected an object, got {value!r:.80}"))
    try:
        return Row(place, columns.document(value, place))
    except CorpusError as error:
        return Row(place, error)


def _begins_with(path: Path, beginning: bytes) -> bool:
    """Whether that is the first character of a file that is neither blank nor a byte-order mark."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return file.read(1024).removeprefix(_BOM).lstrip()[:1] == beginning
