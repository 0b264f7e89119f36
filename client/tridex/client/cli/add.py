"""`tridex index add`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tridex.client.batches import DEFAULT_BATCH_SIZE
from tridex.common.terminal.output import print_json, print_line

from .connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected
from .documents import BatchSize, Codec, DocumentStream, count_rows, read_path, upsert_stream


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
    optional. Documents without text are skipped and counted. Running it again is harmless.
    """
    with connected(address, timeout) as client:
        total = count_rows(path)
        documents = DocumentStream(read_path(path), batch_size, distinct=True)
        started = time.perf_counter()
        version = upsert_stream(client, collection, documents, codec, total=total, show_progress_bar=True)
        seconds = time.perf_counter() - started
    if as_json:
        counts = {"documents": documents.count, "without_text": documents.without_text}
        print_json({**counts, "seconds": seconds, "version": version})
        return
    skipped = f", skipped {documents.without_text:,} without text" if documents.without_text else ""
    print_line(
        f"Wrote {documents.count:,} documents to {collection} in {seconds:,.1f} s "
        f"({documents.count / seconds:,.0f}/s), version {version}{skipped}"
    )
