"""Training examples: a query, a document that answers it, and optionally documents that do not.

Rows are JSON objects, one per line (.jsonl, .jsonl.gz), or rows of a Parquet file, with the fields

    query, positive                                 pairs: the other pairs of a batch are the negatives
    query, positive, negative                       triplets
    query, positive, negatives (several texts)      the same number in every row
"""

from __future__ import annotations

import random
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tridex.common import TridexError
from tridex.protocol.corpus import CorpusError, check_text, read_lines, value_of_line
from tridex.protocol.limits import MAX_TEXT_BYTES


class TrainingDataError(TridexError):
    """A file that cannot be trained on. The message names the line or row and what was expected."""


class Example(NamedTuple):
    """One row."""

    query: str
    positive: str
    negatives: tuple[str, ...]


def read_examples(path: Path) -> list[Example]:
    """Every row of the file. Raises TrainingDataError, which names the line or row, and OSError."""
    examples: list[Example] = []
    try:
        for place, row in _rows(path):
            example = _example(place, row)
            expected = len(examples[0].negatives) if examples else len(example.negatives)
            if len(example.negatives) != expected:
                raise TrainingDataError(
                    f"{place}: {len(example.negatives)} negatives; expected {expected}, as in the first row"
                )
            examples.append(example)
    except CorpusError as error:
        raise TrainingDataError(str(error)) from error
    if not examples:
        raise TrainingDataError(f"{path} has no rows")
    return examples


def hold_out(examples: list[Example], share: float, limit: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Splits the examples into those to train on and those to measure on: a share of the queries, at most `limit`.

    Examples of one query stay together, so that no measured query was trained on.
    """
    queries = sorted({example.query for example in examples})
    count = min(round(share * len(queries)), limit)
    held = set(random.Random(seed).sample(queries, count))
    return [e for e in examples if e.query not in held], [e for e in examples if e.query in held]


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row and its place. Raises CorpusError, OSError."""
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        for place, line in read_lines(path):
            yield place, value_of_line(line, place)
    else:
        raise CorpusError(f"{path}: expected a file that ends with .jsonl, .jsonl.gz or .parquet")


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{path}, after row {number}: expected a whole Parquet file of texts ({error})") from error


def _example(place: str, row: Any) -> Example:
    if not isinstance(row, dict):
        raise CorpusError(f"{place}: expected an object with query, positive and perhaps negative or negatives")
    negatives = row["negatives"] if "negatives" in row else [row["negative"]] if "negative" in row else []
    if not isinstance(negatives, list):
        raise CorpusError(f"{place}: negatives is {reprlib.repr(negatives)}; expected a list of texts")
    return Example(
        _text(place, "query", row.get("query")),
        _text(place, "positive", row.get("positive")),
        tuple(_text(place, "negative", text) for text in negatives),
    )


def _text(place: str, field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise CorpusError(f"{place}: {field} is {reprlib.repr(value)}; expected a text")
    check_text(field, value, MAX_TEXT_BYTES, place)
    return value
