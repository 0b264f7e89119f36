"""Documents in files, as the client takes them; what a file looks like is in tridex.protocol.corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tridex.client.errors import InvalidArgument
from tridex.client.results import Document
from tridex.protocol import corpus


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
    found = corpus.jsonl_in(path) if path.is_dir() else path
    if found is None:
        raise InvalidArgument(f"{path}: expected a BEIR folder with corpus.jsonl or corpus.jsonl.gz in it")
    yield from read_lines(corpus.read_lines(found), str(found))


def read_lines(lines: Iterable[bytes], source: str) -> Iterator[Document]:
    """One document a line; empty lines are passed over. Raises InvalidArgument naming `source` and the line."""
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Document(*corpus.document_of_line(line, f"{source}, line {number}"))
    except corpus.CorpusError as error:
        raise InvalidArgument(str(error)) from error
