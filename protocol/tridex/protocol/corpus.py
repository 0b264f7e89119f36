"""Documents in files: rows, lines, and what a document may hold. What is wrong with a file is a CorpusError, which
names the file and the line.
"""

from __future__ import annotations

import gzip
import json
import reprlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tridex.common import TridexError
from tridex.common.strict_json import check_depth

from . import limits

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

_MAX_LINE_BYTES = 16 << 20
"""Far above a document of the largest text and metadata, whatever JSON escapes in it."""


class CorpusError(TridexError):
    """A file, or a line of it, that holds no document; the message names file, line and what was expected."""


class CorpusDocument(NamedTuple):
    """A document as the file has it; only the types of id and text are checked."""

    id: str
    text: str
    metadata: Any


class Line(NamedTuple):
    """A line of a file that is not empty."""

    place: str
    """File and line, counted from 1."""
    content: bytes


class Row(NamedTuple):
    """A row of a source of documents."""

    place: str
    """File and line, or row, counted from 1."""
    document: CorpusDocument | CorpusError
    """The document, or what is wrong with the row."""


def jsonl_in(folder: Path) -> Path | None:
    """The corpus of a BEIR folder, None where it has none."""
    names = ("corpus.jsonl", "corpus.jsonl.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a .jsonl or .jsonl.gz file. Raises CorpusError where it cannot be read to its end, OSError where it
    cannot be opened."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from lines_of(file, str(path))


def lines_of(file: BinaryIO | gzip.GzipFile, source: str) -> Iterator[Line]:
    """The lines of an open file. Raises CorpusError, which names `source` and the last line that could be read."""
    number = 0
    try:
        while content := file.readline(_MAX_LINE_BYTES + 1):
            number += 1
            place = f"{source}, line {number}"
            if len(content) > _MAX_LINE_BYTES:
                raise CorpusError(f"{place}: expected at most {_MAX_LINE_BYTES} bytes")
            if content.strip():
                yield Line(place, content)
    except (EOFError, zlib.error, OSError) as error:
        expected = "a whole gzip file" if isinstance(file, gzip.GzipFile) else "a file that can be read to its end"
        raise CorpusError(f"{source}, after line {number}: expected {expected} ({error})") from error


def value_of_line(line: bytes, place: str) -> Any:
    """The JSON of a line. Raises CorpusError, which names `place`."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place}: expected JSON in UTF-8 ({error})") from error


def check_document(document: CorpusDocument, place: str) -> str:
    """Checks what the server would check; the document's metadata as JSON. Raises CorpusError, which names `place`."""
    check_text("id", document.id, limits.MAX_ID_BYTES, place)
    check_text("text", document.text, limits.MAX_TEXT_BYTES, place)
    shown = _SHORT.repr(document.metadata)
    try:
        metadata = json.dumps(document.metadata, ensure_ascii=False, allow_nan=False)
        size = len(metadata.encode())
        check_depth(document.metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise CorpusError(f"{place}: metadata is {shown}; expected a JSON object ({error})") from None
    if size > limits.MAX_METADATA_BYTES:
        raise CorpusError(f"{place}: metadata has {size} bytes; expected at most {limits.MAX_METADATA_BYTES}")
    return metadata


def check_text(name: str, text: str, limit: int, place: str) -> None:
    """Raises CorpusError where a text is blank, longer than so many bytes, or not Unicode."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise CorpusError(f"{place}: {name} is {_SHORT.repr(text)}; expected valid Unicode ({error.reason})") from None
    if not text.strip() or size > limit:
        shown = _SHORT.repr(text)
        raise CorpusError(f"{place}: {name} is {shown}, {size} bytes; expected 1 to {limit} bytes, not blank")
