"""Hard negatives: documents that a served collection ranks high for a query, other than its positive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tridex.client import Client, Document, NotFound, SearchResult

from .examples import Example

_QUERIES_PER_CALL = 32


def index_positives(client: Client, collection: str, examples: Sequence[Example]) -> None:
    """Creates the collection of every distinct positive, unless one of that name exists."""
    try:
        client.describe_collection(collection)
    except NotFound:
        texts = dict.fromkeys(example.positive for example in examples)
        documents = [Document(_id(text), text) for text in texts]
        client.upsert(collection, documents, show_progress_bar=True)


def mine(
    client: Client, collection: str, examples: Sequence[Example], count: int, depth: int, margin: float
) -> Iterator[Example]:
    """Finds hard negatives for each example.

    A document that scores more than `margin` times what the example's positive does is likely relevant too, and not
    taken. A positive that is not among the hits counts with the last hit's score.

    Args:
        client: Connected to the server.
        collection: Where to search.
        examples: Queries with their positives.
        count: Negatives per example.
        depth: Hits to choose them from.
        margin: 0 to 1, as a share of the positive's score.

    Yields:
        Each example that has `count` negatives, with the best-ranked ones.

    References:
        Moreira et al. 2024, "NV-Retriever", section 3.2: TopK-PercPos.
    """
    starts = range(0, len(examples), _QUERIES_PER_CALL)
    for start in track(starts, "queries", console=Console(stderr=True)):
        batch = examples[start : start + _QUERIES_PER_CALL]
        found = client.search_batch(collection, [example.query for example in batch], top_k=depth, with_metadata=False)
        for example, result in zip(batch, found, strict=True):
            negatives = _negatives(example, result, count, margin)
            if len(negatives) == count:
                yield example._replace(negatives=negatives)


def write_examples(path: Path, examples: Iterator[Example]) -> int:
    """Writes JSON lines that `read_examples` reads, and returns how many. The file appears when all are written."""
    written = 0
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for query, positive, negatives in examples:
                row = {"query": query, "positive": positive, "negatives": negatives}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                written += 1
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


def _negatives(example: Example, result: SearchResult, count: int, margin: float) -> tuple[str, ...]:
    if not len(result):
        return ()
    positive = next((hit.score for hit in result if hit.text == example.positive), result[-1].score)
    allowed = [
        hit.text for hit in result if hit.text and hit.text != example.positive and hit.score <= margin * positive
    ]
    return tuple(allowed[:count])


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
