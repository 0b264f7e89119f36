"""`tridex upsert`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from tridex.client.batches import DEFAULT_BATCH_SIZE
from tridex.client.checks import invalid
from tridex.client.results import Document
from tridex.protocol.columns import Columns
from tridex.protocol.corpus import lines_of
from tridex.protocol.sources import rows_of

from .connection import ADDRESS, TIMEOUT_S, Address, Collection, Json, Timeout, connected
from .documents import BatchSize, Codec, Create, DocumentStream, IfExists, created, print_counts, upsert_stream


def upsert(
    collection: Collection,
    document_id: Annotated[str | None, typer.Option("--id", help="The document's id.")] = None,
    text: Annotated[str | None, typer.Option(help="The document's text.")] = None,
    metadata: Annotated[str, typer.Option(help="The document's metadata, a JSON object.")] = "{}",
    create: Create = False,
    if_exists: IfExists = "overwrite",
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    codec: Codec = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Write one document given by options, or those on stdin, one JSON object per line as for index add."""
    if (document_id is None) != (text is None):
        raise typer.BadParameter("--id and --text go together; without both, documents are read from stdin")
    with connected(address, timeout) as client:
        document = None if document_id is None or text is None else _document(document_id, text, metadata)
        created(client, collection, create=create)
        if document is not None:
            result = client.upsert(collection, [document], if_exists=if_exists, codec=codec)
        else:
            rows = rows_of(lines_of(sys.stdin.buffer, "stdin"), Columns())
            # A stream of changes may write a document again; in one request it must not.
            documents = DocumentStream(rows, batch_size, distinct=False)
            result = upsert_stream(client, collection, documents, codec, if_exists=if_exists)
    print_counts(collection, result, as_json)


def _document(document_id: str, text: str, metadata: str) -> Document:
    try:
        return Document(document_id, text, json.loads(metadata))
    except (ValueError, RecursionError) as error:
        raise invalid("--metadata", metadata, f"a JSON object ({error})") from error
