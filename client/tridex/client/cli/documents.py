"""Documents in files, as the client takes them; what a file looks like is in tridex.protocol.corpus."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from tritonclient.utils import InferenceServerException

from tridex.client.errors import InvalidArgument
from tridex.client.results import Document
from tridex.protocol import corpus
from tridex.protocol.corpus import CorpusDocument, CorpusError, Row
from tridex.protocol.distinct import DistinctIds
from tridex.protocol.limits import MAX_BATCH

_POSITION = re.compile(r"documents\[([0-9]+)\](\.?)")


def read_path(path: Path) -> Iterator[Row]:
    """The documents of a .jsonl or .jsonl.gz file, or of a BEIR folder's corpus. Raises CorpusError, OSError."""
    found = corpus.jsonl_in(path) if path.is_dir() else path
    if found is None:
        raise CorpusError(f"{path}: expected a BEIR folder with corpus.jsonl or corpus.jsonl.gz in it")
    if found.suffix == ".parquet":
        raise CorpusError(f"{path}: expected a .jsonl or .jsonl.gz file; `tridex index build` reads Parquet")
    yield from corpus.rows_of(corpus.read_lines(found))


def checked(rows: Iterable[Row], *, distinct: bool) -> Iterator[tuple[str, CorpusDocument]]:
    """Place and document of each row with a text. Raises CorpusError for the first one that a server would refuse, and
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
    """The documents of rows, passed on to an upsert one by one; those without text are passed over and counted.

    It remembers where the last ones came from, so that an error that names one can name its file and line.
    """

    def __init__(self, rows: Iterable[Row], batch_size: int, *, distinct: bool) -> None:
        self._rows = checked(rows, distinct=distinct)
        self._batch_size = batch_size
        self._recent: deque[tuple[str, str]] = deque(maxlen=MAX_BATCH)
        """Place and id."""
        self.count = 0
        self.without_text = 0
        self.written = 0
        """Of `count`, those that are written for certain: an upsert asks for more when the batch before is."""

    def __iter__(self) -> Iterator[Document]:
        """Raises InvalidArgument, OSError."""
        try:
            for place, row in self._rows:
                if not row.text:
                    self.without_text += 1
                    continue
                if self.count % self._batch_size == 0:
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

        def place(found: re.Match[str]) -> str:
            where = places.get(int(found[1]))
            return found[0] if where is None else f"{where}{': ' if found[2] else ''}"

        message = _POSITION.sub(place, error.args[0])
        sent = list(self._recent)[-(self.count - self.written) :]
        if message == error.args[0] and sent and isinstance(error.__cause__, InferenceServerException):
            named = [place for place, key in sent if f"document {key!r}" in message]
            message += f" ({named[0]})" if named else f" (sent with {sent[0][0]} to {sent[-1][0]})"
        located = InvalidArgument(message)
        located.written = error.written
        return located
