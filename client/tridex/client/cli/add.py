"""`tridex index add`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tridex.client.batches import DEFAULT_BATCH_SIZE
from tridex.common.terminal.output import print_json, print_line
from tridex.protocol.columns import Columns
from tridex.protocol.sources import open_source

from .connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected
from .documents import (
    BatchSize,
    Codec,
    Create,
    DocumentStream,
    Fields,
    IfExists,
    checked,
    created,
    declaration,
    described,
    upsert_stream,
)
from .field_check import FieldCheck


def add(
    path: Annotated[
        Path,
        typer.Argument(help="A .jsonl, .json, .csv, .tsv or .parquet file, or a BEIR folder.", show_default=False),
    ],
    collection: Annotated[str, typer.Option(help="Name of the collection.", show_default=False)],
    id_column: Annotated[str | None, typer.Option("--id", help="The column of ids; _id or id if left out.")] = None,
    text_columns: Annotated[
        list[str] | None,
        typer.Option("--text", help="A column of texts; several are joined. title and text if left out."),
    ] = None,
    fields: Fields = None,
    create: Create = False,
    if_exists: IfExists = "overwrite",
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    codec: Codec = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Write a file of documents to a collection, through a running server.

    Every column that is neither id nor text is metadata, and so are the keys of a column metadata. The metadata fields
    of a new collection are inferred from its first documents, where none is declared. Documents without text are
    skipped and counted. Running it again is harmless.
    """
    with connected(address, timeout) as client:
        source = open_source(path, Columns(id_column, text_columns or ()))
        # Every row is checked before any is written; a pipe can be read only once.
        is_pipe = not (path.is_file() or path.is_dir())
        declared = declaration(fields or [])
        # Documents that are skipped may have any values.
        check = None if if_exists == "skip" else FieldCheck(described(client, collection), declared)
        total = None if is_pipe else sum(1 for _ in checked(source.rows(), distinct=True, fields=check))
        # Asked for again: to check a large file takes minutes, in which somebody may have made or dropped it.
        if created(client, collection, create=create):
            client.create_collection(collection, codec=codec, fields=declared or None)
        elif declared:
            client.add_fields(collection, declared)
        documents = DocumentStream(source.rows(), batch_size, distinct=is_pipe)
        started = time.perf_counter()
        result = upsert_stream(
            client, collection, documents, codec, if_exists=if_exists, total=total, show_progress_bar=True
        )
        seconds = time.perf_counter() - started
        known = client.describe_collection(collection).fields
    if as_json:
        counts = {"documents": documents.count, "without_text": documents.without_text}
        print_json({**counts, "seconds": seconds, **vars(result)})
        return
    counted = {"replaced": result.replaced, "skipped as they exist": result.skipped}
    counted["skipped without text"] = documents.without_text
    also = "".join(f", {count:,} {what}" for what, count in counted.items() if count)
    print_line(
        f"Wrote {result.added + result.replaced:,} documents to {collection} in {seconds:,.1f} s "
        f"({documents.count / seconds:,.0f}/s), version {result.version}{also}"
    )
    shown = ", ".join(f"{name}:{kind}" for name, kind in known.items())
    print_line(f"Fields that filters can ask for: {shown or 'none'}")
