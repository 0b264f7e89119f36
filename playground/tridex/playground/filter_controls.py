"""What the page can filter by: values with their counts, or a range, for each field of the collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tridex.client import AsyncClient, FacetValue

_VALUES = 12
"""Of a field, the most frequent ones."""
_COVERED = 0.25
"""Of the documents, the share that has the most frequent values, for these to be worth showing."""
_RANGES = ("int", "float", "datetime")


@dataclass(frozen=True)
class FilterControl:
    """A field, and either its values or its range."""

    field: str
    type: str
    values: list[FacetValue] | None = None
    """The most frequent ones of strings, lists and booleans."""
    more: bool = False
    """Whether there are others."""
    range: tuple[Any, Any] | None = None
    """The smallest and the largest one of numbers and times; of times as ISO 8601."""


async def filter_controls(client: AsyncClient, collection: str) -> list[FilterControl]:
    """In the order of the fields, without those that tell no documents apart: all have one value, or each its own."""
    info = await client.describe_collection(collection)
    controls = []
    for field, kind in info.fields.items():
        if kind in _RANGES:
            extent = await client.min_max(collection, field)
            if extent is not None and extent[0] != extent[1]:
                controls.append(FilterControl(field, kind, range=extent))
        else:
            values = await client.facet(collection, field, limit=_VALUES + 1)
            shown, more = values[:_VALUES], len(values) > _VALUES
            tells_apart = len(shown) > 1 or any(value.count < info.count for value in shown)
            if tells_apart and (not more or sum(value.count for value in shown) >= _COVERED * info.count):
                controls.append(FilterControl(field, kind, shown, more))
    return controls
