"""Documents in files: JSON lines, perhaps gzipped, alone or in a BEIR folder.

A line is an object with `_id` or `id`, `text`, and perhaps `title` and `metadata`. A title goes in front of the text,
as BEIR's own retrievers have it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tridex.client.checks import invalid
from tridex.client.errors import InvalidArgument
from tridex.client.results import Document

_EXPECTED = "an object with _id or id, text, and perhaps title (all str) and metadata, nothing else"


class DocumentStream:
    """Documents passed on one by one, except those without text; counts both."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = documents
        self.count = 0
        self.without_text = 0

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            if document.text:
                self.count += 1
                yield document
            else:
                self.without_text += 1


def read_path(path: Path) -> Iterator[Document]:
    """The documents of a .jsonl or .jsonl.gz file, or of a BEIR folder's corpus. Raises InvalidArgument, OSError."""
    if path.is_dir():
        path = _corpus(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            yield from read_lines(lines, str(path))
    except (EOFError, zlib.error) as error:
        raise InvalidArgument(f"{path}: expected a whole gzip file ({error})") from error


def read_lines(lines: Iterable[bytes], source: str) -> Iterator[Document]:
    """One document a line; empty lines are passed over. Raises InvalidArgument naming `source` and the line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{source}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidArgument(f"{place}: expected JSON in UTF-8 ({error})") from error
            yield _document(place, row)


def _corpus(folder: Path) -> Path:
    for name in ("corpus.jsonl", "corpus.jsonl.gz"):
        if (folder / name).is_file():
            return folder / name
    raise InvalidArgument(f"{folder}: expected a BEIR folder with corpus.jsonl or corpus.jsonl.gz in it")


def _document(place: str, row: Any) -> Document:
    if not isinstance(row, dict) or not set(row) <= {"_id", "id", "title", "text", "metadata"}:
        raise invalid(place, row, _EXPECTED)
    document_id, title, text = row.get("_id", row.get("id")), row.get("title", ""), row.get("text")
    if not (isinstance(document_id, str) and isinstance(title, str) and isinstance(text, str)):
        raise invalid(place, row, _EXPECTED)
    return Document(document_id, f"{title} {text}".strip(), row.get("metadata", {}))
