"""Documents in files, written through the client; the format of the files is in tridex.protocol.corpus."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tritonclient.utils import InferenceServerException

from tridex.client.errors import InvalidArgument
from tridex.client.results import Document
from tridex.common.terminal.exits import INTERRUPTED, fail
from tridex.common.terminal.output import print_json, print_line
from tridex.common.terminal.progress import Counted
from tridex.protocol import corpus
from tridex.protocol.corpus import CorpusDocument, CorpusError, Row
from tridex.protocol.distinct import DistinctIds
from tridex.protocol.limits import MAX_BATCH
from tridex.protocol.parameters import CodecName

if TYPE_CHECKING:
    from tridex.client import Client

BatchSize = Annotated[int, typer.Option(help="Documents in one request.")]
Codec = Annotated[CodecName | None, typer.Option(help="How a collection made by this command stores embeddings.")]

_POSITION = re.compile(r"documents\[([0-9]+)\](\.?)")


def read_path(path: Path) -> Iterator[Row]:
    """The documents of a .jsonl or .jsonl.gz file, or of a BEIR folder's corpus. Raises CorpusError, OSError."""
    yield from corpus.rows_of(corpus.read_lines(_file_at(path)))


def count_rows(path: Path) -> int | None:
    """How many rows `read_path` gives. None where they can be read only once, as from a pipe, and where the file is
    damaged, which `read_path` reports. Raises CorpusError, OSError."""
    file = _file_at(path)
    if not file.is_file():
        return None
    with suppress(CorpusError):
        return sum(1 for _ in corpus.read_lines(file))
    return None


def checked(rows: Iterable[Row], *, distinct: bool) -> Iterator[tuple[str, CorpusDocument]]:
    """Place and document of each row. Raises CorpusError for the first one with a text that a server would refuse, and
    where ids are to be `distinct` for one that came before; OSError."""
    with DistinctIds() as ids:
        for place, row in rows:
            if isinstance(row, CorpusError):
                raise row
            if row.text:
                corpus.check_document(row, place)
                if distinct:
                    ids.add(row.id, place)
            yield place, row


class DocumentStream:
    """The documents of rows, for an upsert; those without text are skipped and counted.

    It remembers where the last documents came from, so that an error that names one can name its file and line.

    Args:
        rows: Where the documents come from.
        batch_size: Documents in one request.
        distinct: Whether an id that comes twice is an error.
    """

    def __init__(self, rows: Iterable[Row], batch_size: int, *, distinct: bool) -> None:
        self.batch_size = batch_size
        self.count = 0
        self.without_text = 0
        self.written = 0
        """Of `count`, those that are certainly written: an upsert asks for more when the batch before is."""
        self._rows = checked(rows, distinct=distinct)
        self._recent: deque[tuple[str, str]] = deque(maxlen=MAX_BATCH)
        """Place and id."""

    def __iter__(self) -> Iterator[Document]:
        """Raises InvalidArgument, OSError."""
        try:
            for place, row in self._rows:
                if not row.text:
                    self.without_text += 1
                    continue
                if self.count % self.batch_size == 0:
                    self.written = self.count
                self.count += 1
                self._recent.append((place, row.id))
                yield Document(*row)
        except CorpusError as error:
            raise InvalidArgument(str(error)) from error

    def located(self, error: InvalidArgument) -> InvalidArgument:
        """An upsert's error, with the place of the document that it is about."""
        first = self.count - len(self._recent)
        places = {first + i: place for i, (place, _) in enumerate(self._recent)}

        def with_place(found: re.Match[str]) -> str:
            place = places.get(int(found[1]))
            return found[0] if place is None else f"{place}{': ' if found[2] else ''}"

        message = _POSITION.sub(with_place, error.args[0])
        sent = list(self._recent)[-(self.count - self.written) :]
        if message == error.args[0] and sent and isinstance(error.__cause__, InferenceServerException):
            named = [place for place, key in sent if f"document {key!r}" in message]
            message += f" ({named[0]})" if named else f" (sent with {sent[0][0]} to {sent[-1][0]})"
        located = InvalidArgument(message)
        located.written = error.written
        return located


def upsert_stream(
    client: Client,
    collection: str,
    documents: DocumentStream,
    codec: CodecName | None,
    *,
    total: int | None = None,
    show_progress_bar: bool = False,
) -> int:
    """Client.upsert, whose errors name file and line; interrupted, it says what is written.

    `total` is for the progress bar: how many documents there are, None where that is not known.
    """
    try:
        return client.upsert(
            collection,
            documents if total is None else Counted(documents, total),
            batch_size=documents.batch_size,
            codec=codec,
            show_progress_bar=show_progress_bar,
        )
    except InvalidArgument as error:
        raise documents.located(error) from error
    except KeyboardInterrupt as error:
        fail(
            f"interrupted: the first {documents.written:,} documents are written to {collection}; running it again is "
            "harmless",
            error,
            status=INTERRUPTED,
        )


def print_version(collection: str, version: int, as_json: bool) -> None:
    """What a write ends with."""
    if as_json:
        print_json({"version": version})
    else:
        print_line(f"{collection} is at version {version}")


def _file_at(path: Path) -> Path:
    """The file, or the one of a BEIR folder. Raises CorpusError."""
    file = corpus.jsonl_in(path) if path.is_dir() else path
    if file is None:
        raise CorpusError(f"{path}: expected a BEIR folder with corpus.jsonl or corpus.jsonl.gz in it")
    if file.suffix == ".parquet":
        raise CorpusError(f"{path}: expected a .jsonl or .jsonl.gz file; `tridex index build` reads Parquet")
    return file
