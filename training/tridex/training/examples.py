"""Training examples: a query, a document that answers it, and perhaps documents that do not.

Rows are JSON objects, one a line (.jsonl, .jsonl.gz), or rows of a Parquet file, with the fields

    query, positive                                 pairs: the other pairs of a batch are the negatives
    query, positive, negative                       triplets
    query, positive, negatives (several texts)      as many in every row
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq


class TrainingDataError(ValueError):
    """A file that cannot be trained on. The message names the row and what was expected."""


class Example(NamedTuple):
    """One row."""

    query: str
    positive: str
    negatives: tuple[str, ...]


def read_examples(path: Path) -> list[Example]:
    """Every row of the file. Raises TrainingDataError, naming the row's number, and OSError."""
    examples = [_example(path, number, row) for number, row in enumerate(_rows(path), 1)]
    if not examples:
        raise TrainingDataError(f"{path} has no rows")
    for number, example in enumerate(examples, 1):
        if len(example.negatives) != len(examples[0].negatives):
            raise TrainingDataError(
                f"{path}, row {number}: {len(example.negatives)} negatives; expected {len(examples[0].negatives)}, as "
                "in the first row"
            )
    return examples


def hold_out(examples: list[Example], share: float, limit: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Splits into examples to train on and those to measure on: a share of the queries, and at most `limit`.

    Examples of one query stay together, so that no query is measured that was trained on.
    """
    queries = sorted({example.query for example in examples})
    count = min(round(share * len(queries)), limit)
    held = set(random.Random(seed).sample(queries, count))
    return [e for e in examples if e.query not in held], [e for e in examples if e.query in held]


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
        return
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise TrainingDataError(f"{path}: expected a file that ends with .jsonl, .jsonl.gz or .parquet")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise TrainingDataError(f"{path}, row {number}: expected JSON in UTF-8 ({error})") from error


def _example(path: Path, number: int, row: Any) -> Example:
    place = f"{path}, row {number}"
    if not isinstance(row, dict):
        raise TrainingDataError(f"{place}: expected an object with query, positive and perhaps negative or negatives")
    negatives = row["negatives"] if "negatives" in row else [row["negative"]] if "negative" in row else []
    if not isinstance(negatives, list):
        raise TrainingDataError(f"{place}: negatives is {negatives!r}; expected a list of texts")
    return Example(
        _text(place, "query", row.get("query")),
        _text(place, "positive", row.get("positive")),
        tuple(_text(place, "negative", text) for text in negatives),
    )


def _text(place: str, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TrainingDataError(f"{place}: {field} is {value!r}; expected a text that is not empty")
    return value
