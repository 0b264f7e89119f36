"""Asks retrievers every query of a judged collection, one after another, and measures the time of each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from rich.console import Console
from rich.progress import track

from tridex.client import Client, CodecName, InvalidArgument, NotFound, SearchOptions
from tridex.common.terminal.progress import Counted

from .dataset import Dataset

if TYPE_CHECKING:
    from typing_extensions import Unpack

PERCENTILES = (50, 95, 99)

Retriever = Callable[[str], Mapping[str, float]]
"""A query's text to the documents that are found for it, best first, and their scores."""


class LocalSystem(Protocol):
    """A system that ranks in this process: what a further baseline implements."""

    @property
    def bytes_per_document(self) -> int:
        """What its index holds for each document."""
        ...

    def index(self, dataset: Dataset) -> None:
        """Makes the dataset's documents those that are searched."""
        ...

    def search(self, text: str, top_k: int) -> dict[str, float]:
        """The best documents and their scores, best first."""
        ...


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


def index(client: Client, collection: str, dataset: Dataset, codec: CodecName | None = None) -> None:
    """Writes the corpus into `collection`, unless it holds exactly as many documents.

    Raises:
        InvalidArgument: The collection holds more documents than the corpus, or has another codec.
    """
    expected = sum(1 for _ in dataset.documents())
    try:
        existing = client.describe_collection(collection)
    except NotFound:
        existing = None
    if existing and codec not in (None, existing.codec):
        raise InvalidArgument(
            f"collection {collection!r} has the codec {existing.codec}, not {codec}: choose another name"
        )
    if existing and existing.count > expected:
        raise InvalidArgument(
            f"collection {collection!r} holds {existing.count} documents, the corpus of {dataset.name} {expected}: "
            "choose another name, or drop that collection"
        )
    if existing is None:
        # Metadata of any kind: nothing filters by it.
        client.create_collection(collection, codec=codec, fields={})
    if existing is None or existing.count < expected:
        client.upsert(collection, Counted(dataset.documents(), expected), codec=codec, show_progress_bar=True)


def served_retriever(client: Client, collection: str, **options: Unpack[SearchOptions]) -> Retriever:
    """Searches in a served collection; `options` are those of Client.search."""
    options = {**options, "with_text": False, "with_metadata": False}

    def search(text: str) -> dict[str, float]:
        return {hit.id: hit.score for hit in client.search(collection, text, **options)}

    return search


def retrieve(retrievers: Mapping[str, Retriever], dataset: Dataset) -> dict[str, Retrieval]:
    """Asks each retriever every query, in turns, so that a machine that slows down slows down all of them.

    One client, one query at a time. The first query is asked once before, uncounted.
    """
    retrievals = {name: Retrieval({}, []) for name in retrievers}
    for search in retrievers.values():
        search(next(iter(dataset.queries.values())))
    for query, text in track(dataset.queries.items(), dataset.name, console=Console(stderr=True)):
        for name, search in retrievers.items():
            started = time.perf_counter()
            found = search(text)
            retrievals[name].milliseconds.append(1000 * (time.perf_counter() - started))
            retrievals[name].run[query] = dict(found)
    return retrievals
