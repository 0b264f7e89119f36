"""The first pass over a source: every row is checked before any is encoded, so that a bad one is found in seconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tridex.index import CollectionSpec, Document, DocumentInference, Fields, InvalidDocumentError, check_metadata
from tridex.protocol.corpus import CorpusDocument, CorpusError, check_document
from tridex.protocol.distinct import DistinctIds
from tridex.protocol.sources import Source

from .errors import BuildError

_SHOWN = 10
"""Bad rows that the message names, at most."""

_ROWS_PER_REPORT = 1000


@dataclass(frozen=True)
class Checked:
    """What a source holds."""

    documents: int
    without_text: int
    """Rows that are skipped."""
    digest: str
    """SHA-256 of every document's id, text and metadata, in their order."""
    fields: Fields
    """Those of the specification, or what all documents have where it infers them."""


def documents(source: Source) -> Iterator[Document]:
    """The documents of a checked source; rows without text are skipped."""
    for _, row in source.rows():
        if isinstance(row, CorpusError):
            raise BuildError(f"{row}; the source changed while it was read")
        if row.text.strip():
            yield Document(*row)


def check(source: Source, spec: CollectionSpec, report: Callable[[int], None]) -> Checked:
    """Reads a source to its end.

    Args:
        source: What to read.
        spec: The collection's.
        report: Told how many rows were read since the last time.

    Raises:
        BuildError: Names the first bad rows: one that is no document, an id, text or metadata that a server would
            refuse, an id that comes twice.
    """
    count = without_text = rows = 0
    bad: list[str] = []
    bad_rows = 0
    digest = hashlib.sha256()
    inference = DocumentInference(spec.fields)
    with DistinctIds() as ids:
        for rows, (place, row) in enumerate(source.rows(), 1):
            if rows % _ROWS_PER_REPORT == 0:
                report(_ROWS_PER_REPORT)
            try:
                if isinstance(row, CorpusError):
                    raise row
                if not row.text.strip():
                    without_text += 1
                    continue
                metadata = check_document(row, place)
                _check_fields(row, spec, inference, place)
                ids.add(row.id, place)
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
    return Checked(count, without_text, digest.hexdigest(), inference.fields)


def _check_fields(row: CorpusDocument, spec: CollectionSpec, inference: DocumentInference, place: str) -> None:
    """Raises CorpusError if the index would refuse the document's metadata."""
    try:
        if spec.infers_fields:
            inference.add(row.id, row.metadata)
        check_metadata({} if spec.infers_fields else spec.fields, row.id, row.metadata)
    except InvalidDocumentError as error:
        raise CorpusError(f"{place}: {error}") from None
