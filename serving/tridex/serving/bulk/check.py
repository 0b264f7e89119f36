"""The first pass over a source: every row is checked before any is encoded, so that a bad one is found in seconds."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from tridex.index import Document, InvalidDocumentError
from tridex.index.fields import Fields, column_values, short
from tridex.index.metadata import encoded
from tridex.protocol import limits
from tridex.protocol.corpus import CorpusDocument, CorpusError

from .errors import BuildError
from .sources import Source

_SHOWN = 10
"""Bad rows that the message names."""

_ROWS_PER_REPORT = 1000


@dataclass(frozen=True)
class Checked:
    """What a source holds."""

    documents: int
    without_text: int
    """Rows that are passed over."""
    digest: str
    """SHA-256 of every document's id, text and metadata, in their order."""


def documents(source: Source) -> Iterator[Document]:
    """The documents of a source that was checked; rows without text are passed over."""
    for _, row in source.rows():
        if isinstance(row, CorpusError):
            raise BuildError(f"{row}; the source changed while it was read")
        if row.text.strip():
            yield Document(*row)


def check(source: Source, fields: Fields, report: Callable[[int], None]) -> Checked:
    """Reads a source to its end; `report` is told how many rows came each time.

    Ids are compared in a temporary SQLite database, which keeps to the disk what its small cache cannot hold.
    Raises BuildError that names the first bad rows: one that is no document, an id, text or metadata that a server
    would refuse, an id that comes twice.
    """
    count = without_text = rows = 0
    bad: list[str] = []
    bad_rows = 0
    digest = hashlib.sha256()
    with closing(sqlite3.connect("")) as seen:
        seen.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")
        for rows, (place, row) in enumerate(source.rows(), 1):
            if rows % _ROWS_PER_REPORT == 0:
                report(_ROWS_PER_REPORT)
            try:
                if isinstance(row, CorpusError):
                    raise row
                if not row.text.strip():
                    without_text += 1
                    continue
                metadata = _check_document(row, fields, place)
                _check_new(seen, row.id, place)
            except CorpusError as error:
                bad_rows += 1
                bad += [str(error)] if len(bad) < _SHOWN else []
                continue
            count += 1
            digest.update(json.dumps([row.id, row.text, metadata]).encode())
    report(rows % _ROWS_PER_REPORT)
    if bad:
        more = f"\n  and {bad_rows - len(bad):,} more" if bad_rows > len(bad) else ""
        raise BuildError(f"{bad_rows:,} of {rows:,} rows cannot be indexed:\n  " + "\n  ".join(bad) + more)
    if not count:
        raise BuildError(f"the source has {rows:,} rows and no document with text")
    return Checked(count, without_text, digest.hexdigest())


def _check_new(seen: sqlite3.Connection, key: str, place: str) -> None:
    try:
        seen.execute("INSERT INTO seen VALUES (?, ?)", (key, place))
    except sqlite3.IntegrityError:
        (first,) = seen.execute("SELECT place FROM seen WHERE id = ?", (key,)).fetchone()
        raise CorpusError(f"{place}: id {short(key)} was there before ({first}); expected distinct ids") from None


def _check_document(row: CorpusDocument, fields: Fields, place: str) -> str:
    """The document's metadata as JSON. Raises CorpusError."""
    _check_text("id", row.id, limits.MAX_ID_BYTES, place)
    _check_text("text", row.text, limits.MAX_TEXT_BYTES, place)
    if not isinstance(row.metadata, dict):
        raise CorpusError(f"{place}: metadata is {short(row.metadata)}; expected an object")
    try:
        metadata = encoded(row.id, row.metadata)
        column_values(fields, row.id, row.metadata)
    except InvalidDocumentError as error:
        raise CorpusError(f"{place}: {error}") from None
    size = len(metadata.encode())
    if size > limits.MAX_METADATA_BYTES:
        raise CorpusError(f"{place}: metadata has {size} bytes; expected at most {limits.MAX_METADATA_BYTES}")
    return metadata


def _check_text(name: str, text: str, limit: int, place: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise CorpusError(f"{place}: {name} is {short(text)}; expected valid Unicode ({error.reason})") from None
    if not text.strip() or size > limit:
        raise CorpusError(f"{place}: {name} is {short(text)}, {size} bytes; expected 1 to {limit} bytes, not blank")
