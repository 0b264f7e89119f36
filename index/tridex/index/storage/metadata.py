"""Metadata as the store keeps it: JSON, of which nothing is stored that cannot be given back.

Earlier versions stored more: infinite numbers, as JSON has none, and objects of 500 levels, which nobody can copy or
decode without running out of stack. Such a document is given back with metadata that says so, under UNREADABLE.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from tridex.common.fields import Fields, short
from tridex.common.strict_json import MAX_DEPTH, check_depth
from tridex.index.errors import InvalidDocumentError

from .fields import column_values

UNREADABLE = "_unreadable"
"""The one key of what stands for metadata that cannot be given back; its value is the reason."""


def check_metadata(fields: Fields, key: str, metadata: dict[str, Any]) -> None:
    """Checks that a document's metadata can be stored and given back.

    Args:
        fields: The fields that the collection declares.
        key: The document's id, for the message.
        metadata: A declared field may be absent or null; other keys may hold any JSON.

    Raises:
        InvalidDocumentError: A declared field holds what is not of its type, or the metadata could not be given back.
    """
    column_values(fields, key, metadata)
    encoded(key, metadata)


def encoded(key: str, metadata: dict[str, Any]) -> str:
    """The metadata of document `key` as JSON. Raises InvalidDocumentError where it could not be given back."""
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
        text.encode()
        _decoded(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidDocumentError(
            f"metadata of document {short(key)} is {short(metadata)}; expected a JSON object of finite numbers and "
            f"valid Unicode, with objects and lists in at most {MAX_DEPTH} levels ({error})"
        ) from None
    return text


def decoded(text: str) -> dict[str, Any]:
    """What was stored, or UNREADABLE and the reason."""
    try:
        return _decoded(text)
    except (ValueError, RecursionError) as error:
        return _unreadable(error)


def sendable(text: str) -> str:
    """What was stored, as JSON: the same text, or UNREADABLE and the reason (2 µs a document)."""
    try:
        _decoded(text)
    except (ValueError, RecursionError) as error:
        return json.dumps(_unreadable(error))
    return text


def _unreadable(error: Exception) -> dict[str, Any]:
    return {UNREADABLE: f"stored by an earlier version, and no JSON that can be given back: {error}"}


def _decoded(text: str) -> dict[str, Any]:
    """Raises ValueError or RecursionError."""
    metadata: dict[str, Any] = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    if text.count("{") + text.count("[") > MAX_DEPTH:
        check_depth(metadata)
    return metadata


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number} is no finite number")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)
