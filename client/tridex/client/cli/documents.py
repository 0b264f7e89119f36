"""Documents in files, written through the client; the files are read by tridex.protocol.sources."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tritonclient.utils import InferenceServerException

from tridex.client.checks import invalid
from tridex.client.errors import InvalidArgument, NotFound
from tridex.client.results import CollectionInfo, Document, UpsertResult
from tridex.common.terminal.exits import INTERRUPTED, fail
from tridex.common.terminal.output import print_json, print_line
from tridex.common.terminal.progress import Counted
from tridex.protocol import corpus
from tridex.protocol.corpus import CorpusDocument, CorpusError, Row
from tridex.protocol.distinct import DistinctIds
from tridex.protocol.limits import MAX_BATCH
from tridex.protocol.parameters import CodecName, IfExistsName

from .field_check import FieldCheck

if TYPE_CHECKING:
    from tridex.client import Client

BatchSize = Annotated[int, typer.Option(help="Documents in one request.")]
IfExists = Annotated[IfExistsName, typer.Option(help="What becomes of documents whose ids are there already.")]
Create = Annotated[bool, typer.Option("--create", help="Make the collection if it does not exist.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", help="A metadata field that filters can ask for, as NAME:TYPE; may be repeated."),
]
Codec = Annotated[CodecName | None, typer.Option(help="How a collection made by this command stores embeddings.")]

_POSITION = re.compile(r"documents\[([0-9]+)\](\.?)")


def described(client: Client, collection: str) -> CollectionInfo | None:
    """The collection; None where there is none."""
    with suppress(NotFound):
        return client.describe_collection(collection)
    return None


def created(client: Client, collection: str, *, create: bool) -> bool:
    """Whether the command may make the collection, which then does not exist: by `--create`, or by a yes on a terminal.

    Raises NotFound where it may not.
    """
    try:
        client.describe_collection(collection)
    except NotFound as error:
        if create or (
            sys.stdin is not None
            and sys.stdin.isatty()
            and typer.confirm(f"{error}. Make collection {collection}?", err=True)
        ):
            return True
        raise NotFound(f"{error} (--create makes it)") from error
    return False


def declaration(fields: Sequence[str]) -> dict[str, str]:
    """`--field NAME:TYPE`, given several times. Raises InvalidArgument."""
    declared: dict[str, str] = {}
    for given in fields:
        name, colon, kind = given.rpartition(":")
        if not colon or name in declared:
            raise invalid("--field", given, "NAME:TYPE, each name once")
        declared[name] = kind
    return declared


def checked(
    rows: Iterable[Row], *, distinct: bool, fields: FieldCheck | None = None
) -> Iterator[tuple[str, CorpusDocument]]:
    """Place and document of each row. Raises CorpusError for the first one with a text that a server would refuse, for
    its `fields` too, and where ids are to be `distinct` for one that came before; OSError."""
    with DistinctIds() as ids:
        for place, row in rows:
            if isinstance(row, CorpusError):
                raise row
            if row.text:
                corpus.check_document(row, place)
                if fields:
                    fields.check(place, row)
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
    if_exists: IfExistsName = "overwrite",
    total: int | None = None,
    show_progress_bar: bool = False,
) -> UpsertResult:
    """Client.upsert, whose errors name file and line; interrupted, it says what is written.

    `total` is for the progress bar: how many documents there are, None where that is not known.
    """
    try:
        return client.upsert(
            collection,
            documents if total is None else Counted(documents, total),
            if_exists=if_exists,
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


def print_counts(collection: str, result: Any, as_json: bool) -> None:
    """What a write ends with: the version, and how many documents it changed in which way."""
    counts = vars(result)
    if as_json:
        print_json(counts)
        return
    changed = ", ".join(f"{count:,} {what}" for what, count in counts.items() if what != "version" and count)
    print_line(f"{changed or 'nothing changed'}; {collection} is at version {result.version}")
