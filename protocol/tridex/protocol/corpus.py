"""Documents in files: JSON lines, perhaps gzipped, alone or in a BEIR folder.

A line is an object with `_id` or `id`, `text`, and perhaps `title` and `metadata`. A title goes in front of the text,
as BEIR's own retrievers have it.
"""

from __future__ import annotations

import gzip
import json
import reprlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_EXPECTED = "an object with _id or id, text, and perhaps title (all str) and metadata, nothing else"


class CorpusError(ValueError):
    """A file, or a line of it, that holds no document; the message names the place and what was expected."""


class CorpusDocument(NamedTuple):
    """A document as the file has it; nothing but the types of id and text is checked."""

    id: str
    text: str
    metadata: Any


def jsonl_in(folder: Path) -> Path | None:
    """The corpus of a BEIR folder, None where it has none."""
    names = ("corpus.jsonl", "corpus.jsonl.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a .jsonl or .jsonl.gz file. Raises CorpusError where a gzip file is cut or damaged, OSError."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            yield from lines
    except (EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: expected a whole gzip file ({error})") from error


def document_of_line(line: bytes, place: str) -> CorpusDocument:
    """The document of a line. Raises CorpusError, which names `place`."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place}: expected JSON in UTF-8 ({error})") from error
    if not isinstance(row, dict) or not set(row) <= {"_id", "id", "title", "text", "metadata"}:
        raise _unexpected(place, row)
    return document_of_row(row, row.get("metadata", {}), place)


def document_of_row(row: dict[str, Any], metadata: Any, place: str) -> CorpusDocument:
    """The document with the id, title and text of a row. Raises CorpusError, which names `place`."""
    document_id, title, text = row.get("_id", row.get("id")), row.get("title"), row.get("text")
    title = "" if title is None else title
    if not (isinstance(document_id, str) and isinstance(title, str) and isinstance(text, str)):
        raise _unexpected(place, row)
    return CorpusDocument(document_id, f"{title} {text}".strip(), metadata)


def _unexpected(place: str, row: Any) -> CorpusError:
    return CorpusError(f"{place}: expected {_EXPECTED}, got {_SHORT.repr(row)}")
