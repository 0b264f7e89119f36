"""A second implementation of filters: over a plain dictionary, as Haystack's own in-memory store evaluates them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any


def matches(condition: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether a document with this metadata is selected."""
    operator = condition["operator"]
    if operator in ("AND", "OR", "NOT"):
        found = [matches(inner, metadata) for inner in condition["conditions"]]
        return {"AND": all(found), "OR": any(found), "NOT": not all(found)}[operator]
    name = condition["field"].removeprefix("meta.")
    stored, value = _comparable(metadata.get(name)), condition["value"]
    if operator in ("in", "not in"):
        return (stored in [_comparable(one) for one in value]) == (operator == "in")
    value = _comparable(value)
    if operator in ("==", "!="):
        return bool((stored == value) == (operator == "=="))
    if stored is None or value is None:
        return False
    if operator in _CONTAINS:
        return _CONTAINS[operator](stored, value)
    return bool({"<": stored < value, "<=": stored <= value, ">": stored > value, ">=": stored >= value}[operator])


_CONTAINS: Mapping[str, Callable[[Any, Any], bool]] = {
    "contains": lambda stored, value: value in stored,
    "starts_with": lambda stored, value: stored.startswith(value),
    "contains_any": lambda stored, value: any(one in stored for one in value),
    "contains_all": lambda stored, value: all(one in stored for one in value),
}


def _comparable(value: Any) -> Any:
    """Times as times; other strings, which look like none here, as they are."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
