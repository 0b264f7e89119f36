"""What a collection's fields hold, in Haystack's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tridex.client import FacetValue

_TYPES = {"bool": "boolean", "int": "int", "float": "float"}


def field_name(given: str) -> str:
    """A field without the prefix that Haystack allows."""
    return given.removeprefix("meta.")


def fields_info(fields: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The type of each field; text, times and lists are keywords, as in Haystack's own store."""
    return {name: {"type": _TYPES.get(kind, "keyword")} for name, kind in fields.items()}


def bounds(found: tuple[Any, Any] | None) -> dict[str, Any]:
    """The smallest and the largest value, None where no document has one."""
    lowest, highest = found or (None, None)
    return {"min": lowest, "max": highest}


def page_of_values(
    found: Sequence[FacetValue], search_term: str | None, first: int, size: int
) -> tuple[list[Any], int]:
    """Values with `search_term` in them, whatever its case, from `first` on, in order; and how many there are."""
    wanted = (search_term or "").lower()
    values = sorted((one.value for one in found if wanted in str(one.value).lower()), key=str)
    return values[first : first + size], len(values)
