"""Asks a served collection every query of a judged one, one after another, and takes the time of each answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from tridex.client import Client, InvalidArgument, NotFound

from .dataset import Dataset

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Retrieval:
    """What was found, and how long each query took from the text to the ids."""

    run: dict[str, dict[str, float]]
    """Scores of the documents found, by query."""
    milliseconds: list[float]

    def percentiles(self) -> dict[str, float]:
        """p50, p95 and p99 of the milliseconds."""
        values = np.percentile(self.milliseconds, PERCENTILES).tolist()
        return {f"p{percentile}_ms": value for percentile, value in zip(PERCENTILES, values, strict=True)}

    def write(self, path: Path, tag: str) -> None:
        """Writes the run as TREC's six columns, which other tools read."""
        with path.open("w", encoding="utf-8") as file:
            for query, scores in self.run.items():
                for rank, (document, score) in enumerate(scores.items(), 1):
                    file.write(f"{query} Q0 {document} {rank} {score!r} {tag}\n")


def index(client: Client, collection: str, dataset: Dataset, codec: str | None = None) -> None:
    """Puts the corpus into `collection`, unless exactly as many documents are there already.

    Raises InvalidArgument where the collection holds more documents than the corpus, or has another codec.
    """
    expected = sum(1 for _ in dataset.documents())
    try:
        there = client.describe_collection(collection)
    except NotFound:
        there = None
    if there and codec not in (None, there.codec):
        raise InvalidArgument(
            f"collection {collection!r} has the codec {there.codec}, not {codec}: choose another name"
        )
    if there and there.count > expected:
        raise InvalidArgument(
            f"collection {collection!r} holds {there.count} documents, the corpus of {dataset.name} {expected}: choose "
            "another name, or drop that collection"
        )
    if there is None or there.count < expected:
        client.upsert(collection, dataset.documents(), codec=codec, show_progress_bar=True)


def retrieve(client: Client, collection: str, dataset: Dataset, top_k: int) -> Retrieval:
    """Searches for every query alone, as one caller would. The first is asked once before, uncounted."""
    run: dict[str, dict[str, float]] = {}
    milliseconds = []
    client.search(collection, next(iter(dataset.queries.values())), top_k=top_k)
    for query, text in track(dataset.queries.items(), "queries", console=Console(stderr=True)):
        started = time.perf_counter()
        hits = client.search(collection, text, top_k=top_k, with_text=False, with_metadata=False)
        milliseconds.append(1000 * (time.perf_counter() - started))
        run[query] = {hit.id: hit.score for hit in hits}
    return Retrieval(run, milliseconds)
