"""What a big ingest costs the searches beside it: one client's latencies, without and with another one that writes.

python -m benchmarks.ingest
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from tridex.client import Client
from tridex.protocol.limits import MAX_BATCH

from .environment import CODECS, Corpus, chosen, served
from .publishing import filed, publish

DOCUMENTS = 256
"""Of each upsert, in requests of as many as one may have."""
TARGET = "ingested"
WARM_UP_S = 3.0

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--corpus", type=Path, help="a BEIR folder, in place of the standard library's documentation")
    parser.add_argument("--seconds", type=float, default=20.0, help="of searches, each time")
    arguments = parser.parse_args()
    corpus = chosen(arguments.corpus, arguments.data)
    with served(corpus, arguments.repository, arguments.data) as (server, client):
        if TARGET in (found.name for found in client.collections()):
            client.drop_collection(TARGET)
        client.create_collection(TARGET, codec=CODECS[0], long_documents=corpus.long_documents)
        searched = corpus.collection(CODECS[0])
        questions = itertools.cycle(corpus.questions)
        latencies(client, searched, questions, WARM_UP_S)
        with console.status("searches, nobody writes"):
            alone = latencies(client, searched, questions, arguments.seconds)
        stop = threading.Event()
        with ThreadPoolExecutor(1) as writing:
            written = writing.submit(ingest, server.address, corpus, stop)
            try:
                with console.status("searches beside an ingest"):
                    beside = latencies(client, searched, questions, arguments.seconds)
            finally:
                stop.set()
        documents, seconds = written.result()
        client.drop_collection(TARGET)
    rows = [row("nobody writes", alone), row(f"beside an ingest of {DOCUMENTS} documents a call", beside)]
    written_per_s = f"The ingest wrote {documents / seconds:,.0f} documents a second."
    text = f"{corpus.size}, {CODECS[0]}:\n\n{table(rows)}\n\n{written_per_s}"
    console.print(Markdown(text))
    about = {"corpus": corpus.name, "documents": len(corpus.documents)}
    results = {**about, "searches": rows, "ingested": documents, "ingest_s": seconds}
    publish(filed("ingest", server.device, corpus.name), results, text, section="Mutable index")


def ingest(address: str, corpus: Corpus, stop: threading.Event) -> tuple[int, float]:
    """Upserts new documents, one call after the other, until it is stopped: how many, and in how many seconds."""
    new = (replace(one, id=f"{i}") for i, one in enumerate(itertools.cycle(corpus.documents)))
    documents, began = 0, time.monotonic()
    with Client(address, timeout_s=120) as client:
        while not stop.is_set():
            some = itertools.islice(new, DOCUMENTS)
            documents += client.upsert(TARGET, some, batch_size=MAX_BATCH).added
    return documents, time.monotonic() - began


def latencies(client: Client, collection: str, questions: Iterable[str], seconds: float) -> list[float]:
    """Milliseconds of one search after the other."""
    found, until = [], time.perf_counter() + seconds
    for question in questions:
        began = time.perf_counter()
        if began > until:
            break
        client.search(collection, question, with_text=False, with_metadata=False)
        found.append(1000 * (time.perf_counter() - began))
    return found


def row(what: str, ms: Sequence[float]) -> dict[str, Any]:
    percentiles = {f"p{percent}_ms": float(np.percentile(ms, percent)) for percent in (50, 95, 99, 100)}
    return {"what": what, "searches": len(ms), **percentiles}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A row for each measurement, in Markdown."""
    lines = ["| one client's searches | p50 ms | p95 ms | p99 ms | largest | searches |", "| --- " * 6 + "|"]
    for one in rows:
        figures = " | ".join(f"{one[f'p{percent}_ms']:.1f}" for percent in (50, 95, 99, 100))
        lines.append(f"| {one['what']} | {figures} | {one['searches']:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
