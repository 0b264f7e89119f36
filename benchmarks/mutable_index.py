"""The mutable index: how soon a write is visible, what it costs concurrent searches, filters, compaction.

python -m benchmarks.mutable_index
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.markdown import Markdown

from tridex.client import Client, Document
from tridex.index import Collection, CollectionSpec, Follower, Snapshot, Store, declared_fields
from tridex.index import Document as StoredDocument
from tridex.kernels import Codec
from tridex.serving.server import TritonServer

from .environment import served, stdlib
from .publishing import publish

ROWS = 500_000
COLLECTION = "stdlib-float16"
WRITES = 30
DOCUMENTS = 10
"""Per upsert."""

console = Console()
Row = tuple[str, str, list[float]]
"""What was measured, its unit, every measurement."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    arguments = parser.parse_args()
    corpus = stdlib(arguments.data)
    measured: list[Row] = []
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder, console.status(f"filters over {ROWS:,} rows"):
        measured += filters(Path(folder))
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder, console.status("compaction"):
        measured += compaction(Path(folder))
    with served(corpus, arguments.repository, arguments.data) as (server, client):
        measured += writes(server, client, corpus.questions[:WRITES])
    markdown = table(measured)
    console.print(Markdown(markdown))
    publish("mutable_index", {name: {"unit": unit, "measured": values} for name, unit, values in measured}, markdown)


def filters(folder: Path) -> list[Row]:
    """Two conditions joined by AND: new to the snapshot, and cached by it."""
    spec = CollectionSpec(8, Codec.FLOAT16, "f" * 64, declared_fields({"year": "int", "kind": "str"}))
    collection = Store(folder).create("rows", spec)
    one = np.ones((1, spec.dim), np.float32)
    for first in range(0, ROWS, 50_000):
        ids = range(first, first + 50_000)
        documents = [StoredDocument(f"{i:07}", "", {"year": i % 977, "kind": f"k{i % 13}"}) for i in ids]
        collection.upsert(documents, [one] * len(documents))
    snapshot = Follower(Store(folder), "rows", torch.device("cpu")).snapshot
    wanted = [
        {
            "operator": "AND",
            "conditions": [
                {"field": "year", "operator": ">=", "value": 100 + i},
                {"field": "kind", "operator": "in", "value": [f"k{i % 13}", "k5"]},
            ],
        }
        for i in range(31)
    ]
    snapshot.filtered(wanted[-1])  # The store opens its files.
    cold = [milliseconds(snapshot.filtered, condition) for condition in wanted[:-1]]
    cached = [milliseconds(snapshot.filtered, condition) for condition in wanted[:-1]]
    return [
        (f"filter over {ROWS:,} rows, two conditions, new", "ms", cold),
        (f"filter over {ROWS:,} rows, two conditions, cached", "ms", cached),
    ]


def compaction(folder: Path) -> list[Row]:
    """20,000 documents of 60 tokens, written 100 at a time: compacting them, and the snapshot after it."""
    spec = CollectionSpec(128, Codec.FLOAT16, "f" * 64)
    collection = Store(folder).create("many", spec)
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((60, spec.dim), np.float32)
    for first in range(0, 20_000, 100):
        ids = range(first, first + 100)
        collection.upsert([StoredDocument(f"{i:05}", f"text {i}", {}) for i in ids], [tokens] * 100)
    follower = Follower(Store(folder), "many", torch.device("cpu"))
    before = texts_ms(follower.snapshot)
    compacting = milliseconds(collection.compact)
    following = milliseconds(follower.refresh)
    after = texts_ms(follower.snapshot)
    loading = milliseconds(Follower, Store(folder), "many", torch.device("cpu"))
    return [
        ("compaction of 200 files of 100 documents", "ms", [compacting]),
        ("the snapshot follows it", "ms", [following]),
        ("the same collection loaded from the store", "ms", [loading]),
        ("texts of 10 documents, before compaction", "ms", before),
        ("texts of 10 documents, after", "ms", after),
    ]


def texts_ms(snapshot: Snapshot) -> list[float]:
    rng = np.random.default_rng(0)
    addresses = snapshot.segments[0].addresses
    some = [rng.choice(addresses, 10) for _ in range(50)]
    collection: Collection = snapshot.collection
    return [milliseconds(collection.payload, these) for these in some]


def writes(server: TritonServer, client: Client, asked: Sequence[str]) -> list[Row]:
    """A writer that searches for what it wrote, one that does not, and a concurrent reader."""
    queries = client.encode_query(list(asked))
    documents = [[Document(f"new-{i}", f"{text} {j}") for i in range(DOCUMENTS)] for j, text in enumerate(asked)]
    alone = [milliseconds(search, client, query) for query in queries]
    stop = threading.Event()
    beside: list[float] = []

    def reader() -> None:
        with Client(server.address, timeout_s=60) as other:
            while not stop.is_set():
                beside.extend(milliseconds(search, other, query) for query in queries[:5])

    searching = threading.Thread(target=reader)
    searching.start()
    own = []
    for batch, query in zip(documents, queries, strict=True):
        client.upsert(COLLECTION, batch)
        own.append(milliseconds(client.search, COLLECTION, query))
    stop.set()
    searching.join()
    visible = []
    with Client(server.address, timeout_s=60) as other:
        for batch in documents:
            version = client.upsert(COLLECTION, batch).version
            acknowledged = time.perf_counter()
            while other.search(COLLECTION, queries[0], min_version=0, top_k=1).version < version:
                pass
            visible.append(1000 * (time.perf_counter() - acknowledged))
    client.delete(COLLECTION, [document.id for document in documents[0]])
    return [
        (f"upsert of {DOCUMENTS} documents: until a search by another client sees it", "ms", visible),
        ("search by the writer right after it, beside a concurrent reader", "ms", own),
        ("search by a concurrent reader, nobody writes", "ms", alone),
        ("search by a concurrent reader while the writer writes and searches", "ms", beside),
    ]


def search(client: Client, query: object) -> None:
    client.search(COLLECTION, query, min_version=0, with_text=False, with_metadata=False)  # type: ignore[arg-type]


def milliseconds(run: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    run(*arguments)
    return 1000 * (time.perf_counter() - began)


def table(measured: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | median | 95th percentile | largest | times |", "| --- | --- | --- | --- | --- |"]
    for name, unit, values in measured:
        figures = (median(values), float(np.percentile(values, 95)), max(values))
        lines.append(f"| {name} | " + " | ".join(f"{x:,.2f} {unit}" for x in figures) + f" | {len(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
