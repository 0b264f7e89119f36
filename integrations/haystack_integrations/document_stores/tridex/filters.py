"""Haystack's filters: the server's form is the same, less what Haystack allows on a document's own attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from haystack import Document
from haystack.errors import FilterError

_ATTRIBUTES = {field.name for field in fields(Document)} - {"meta"}


def server_filters(given: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The `filters` of a request. Raises FilterError for what JSON would change; the server checks the rest."""
    if not given:
        return None
    _check(given)
    return given


def _check(given: Any) -> None:
    if not isinstance(given, Mapping):
        raise FilterError(f"filters: expected conditions that are dictionaries, got {given!r}")
    if given.get("field") in _ATTRIBUTES:
        raise FilterError(f"filters: expected a field of meta, like 'meta.year', got {given['field']!r}")
    if isinstance(given.get("value"), (tuple, set, frozenset)):
        raise FilterError(f"filters: expected a list as the value, got {given['value']!r}")
    for condition in given.get("conditions") or ():
        _check(condition)
