"""Commands that change a collection: index add, upsert, delete."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tridex.client.checks import invalid
from tridex.client.client import DEFAULT_BATCH_SIZE, Client
from tridex.client.errors import InvalidArgument
from tridex.client.results import Document
from tridex.common.terminal.exits import INTERRUPTED, fail
from tridex.common.terminal.output import print_json, print_line
from tridex.protocol.corpus import lines_of, rows_of

from .connection import ADDRESS, TIMEOUT_S, Address, Collection, Filters, Json, Timeout, connected, read_filters
from .documents import DocumentStream, read_path

BatchSize = Annotated[int, typer.Option(help="Documents in one request.")]
Codec = Annotated[str | None, typer.Option(help="How a collection made by this command stores embeddings.")]


def add(
    path: Annotated[Path, typer.Argument(help="A .jsonl or .jsonl.gz file, or a BEIR folder.", show_default=False)],
    collection: Annotated[str, typer.Option(help="Name of the collection.", show_default=False)],
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    codec: Codec = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Write a file of documents to a collection, through a running server.

    A line of the file is {"_id" or "id": ..., "title": ..., "text": ..., "metadata": {...}}, title and metadata being
    optional. Documents without text are passed over and counted. Running it again is harmless.
    """
    documents = DocumentStream(read_path(path), batch_size, distinct=True)
    started = time.perf_counter()
    with connected(address, timeout) as client:
        version = _upsert(client, collection, documents, batch_size, codec, show_progress_bar=True)
    seconds = time.perf_counter() - started
    if as_json:
        counts = {"documents": documents.count, "without_text": documents.without_text}
        print_json({**counts, "seconds": seconds, "version": version})
        return
    passed_over = f", passed over {documents.without_text:,} without text" if documents.without_text else ""
    print_line(
        f"Wrote {documents.count:,} documents to {collection} in {seconds:,.1f} s "
        f"({documents.count / seconds:,.0f}/s), version {version}{passed_over}"
    )


def upsert(
    collection: Collection,
    document_id: Annotated[str | None, typer.Option("--id", help="The document's id.")] = None,
    text: Annotated[str | None, typer.Option(help="The document's text.")] = None,
    metadata: Annotated[str, typer.Option(help="The document's metadata, a JSON object.")] = "{}",
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    codec: Codec = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Write one document given by options, or those on stdin, one JSON object a line as for index add."""
    if (document_id is None) != (text is None):
        raise typer.BadParameter("--id and --text go together; without both, documents are read from stdin")
    with connected(address, timeout) as client:
        if document_id is not None and text is not None:
            version = client.upsert(collection, [_one(document_id, text, metadata)], codec=codec)
        else:
            rows = rows_of(lines_of(sys.stdin.buffer, "stdin"))
            # A stream of changes may write a document again; in one request it must not.
            documents = DocumentStream(rows, batch_size, distinct=False)
            version = _upsert(client, collection, documents, batch_size, codec, show_progress_bar=False)
    _print_version(collection, version, as_json)


def delete(
    collection: Collection,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the documents to remove.", show_default=False)] = None,
    filters: Filters = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Remove documents from a collection: those of the ids, or those that match the filters."""
    with connected(address, timeout) as client:
        version = client.delete(collection, ids or None, filters=read_filters(filters))
    _print_version(collection, version, as_json)


def _upsert(
    client: Client,
    collection: str,
    documents: DocumentStream,
    batch_size: int,
    codec: str | None,
    *,
    show_progress_bar: bool,
) -> int:
    """Client.upsert, whose errors name file and line; interrupted, it says what is written."""
    try:
        return client.upsert(
            collection, documents, batch_size=batch_size, codec=codec, show_progress_bar=show_progress_bar
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


def _one(document_id: str, text: str, metadata: str) -> Document:
    try:
        return Document(document_id, text, json.loads(metadata))
    except (ValueError, RecursionError) as error:
        raise invalid("--metadata", metadata, f"a JSON object ({error})") from error


def _print_version(collection: str, version: int, as_json: bool) -> None:
    if as_json:
        print_json({"version": version})
    else:
        print_line(f"{collection} is at version {version}")
