"""What the documents of a collection have in a field: how often each value, the smallest and the largest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from tridex.common.fields import PREFIX, short
from tridex.index.errors import InvalidFieldError

from .spec import CollectionSpec


@dataclass(frozen=True)
class FacetValue:
    """A value of a field, as JSON has it, and the documents that have it."""

    value: Any
    count: int


def count_values(
    dataset: lance.LanceDataset, spec: CollectionSpec, field: str, condition: str | None, limit: int
) -> list[FacetValue]:
    """The most frequent values of a field, ties by value; a list counts once for each of its distinct items.

    Raises InvalidFieldError where there is no such field.
    """
    counts: Counter[Any] = Counter()
    for values in _values(dataset, _column(spec, field), condition):
        items = values
        if pa.types.is_list(values.type):
            rows = pa.table({"row": pc.list_parent_indices(values), "item": pc.list_flatten(values)})
            items = rows.group_by(["row", "item"]).aggregate([])["item"]
        for counted in pc.value_counts(items).to_pylist():
            counts[counted["values"]] += counted["counts"]
    del counts[None]
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [FacetValue(_json(value), count) for value, count in found]


def bounds(
    dataset: lance.LanceDataset, spec: CollectionSpec, field: str, condition: str | None
) -> tuple[Any, Any] | None:
    """The smallest and the largest value of a field, None where no document has one.

    Raises InvalidFieldError where there is no such field, or its values have no order.
    """
    column = _column(spec, field)
    kind = spec.fields[field.removeprefix(PREFIX)]
    if not kind.ordered:
        raise InvalidFieldError(f"field {short(field)} is {kind.value}; expected one that is int, float or datetime")
    found = [pc.min_max(values) for values in _values(dataset, column, condition)]
    lowest = [low for one in found if (low := one["min"].as_py()) is not None]
    highest = [high for one in found if (high := one["max"].as_py()) is not None]
    return (_json(min(lowest)), _json(max(highest))) if lowest else None


def _column(spec: CollectionSpec, field: str) -> str:
    column = spec.columns.get(field.removeprefix(PREFIX))
    if column is None:
        existing = ", ".join(spec.fields) or "none"
        raise InvalidFieldError(f"field is {short(field)}; expected a field of the collection: {existing}")
    return column


def _values(dataset: lance.LanceDataset, column: str, condition: str | None) -> Iterator[pa.Array]:
    for rows in dataset.scanner(columns=[column], filter=condition).to_batches():
        yield rows[column]


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
