"""Metadata fields: the types there are, what a value of each is in JSON, and whether a document's metadata fits."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import Any

MAX_FIELDS = 64
"""Declared fields of a collection; each is a column of the store."""

MAX_FIELD_NAME_BYTES = 128
"""UTF-8 bytes of a declared field's name."""

PREFIX = "meta."
"""Filters may write it before a field's name, as Haystack does."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

Value = str | int | float | bool | datetime | list[str]


class FieldValueError(ValueError):
    """A value in a document's metadata that does not fit its field; the message names field, document and value."""


class FieldType(Enum):
    """The type of a declared field; the value is the name that users type."""

    STR = "str"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    STRINGS = "list[str]"

    @property
    def ordered(self) -> bool:
        """Whether <, <=, > and >= apply."""
        return self in (FieldType.INT, FieldType.FLOAT, FieldType.DATETIME)

    @property
    def expected(self) -> str:
        """What a value of this type is in JSON, in words."""
        return {
            FieldType.STR: "a string of valid Unicode",
            FieldType.INT: "an integer of 64 bits",
            FieldType.FLOAT: "a finite number",
            FieldType.BOOL: "true or false",
            FieldType.DATETIME: "an ISO 8601 date or time, as a string",
            FieldType.STRINGS: "a list of strings of valid Unicode",
        }[self]

    def parse(self, value: Any) -> Value:
        """A JSON value as a value of this type; a time without an offset is UTC. Raises ValueError."""
        parsed: Value | None
        match self:
            case FieldType.STR:
                parsed = value if _is_text(value) else None
            case FieldType.INT:
                parsed = value if type(value) is int and -(2**63) <= value < 2**63 else None
            case FieldType.FLOAT:
                parsed = _finite(value) if type(value) in (int, float) else None
            case FieldType.BOOL:
                parsed = value if isinstance(value, bool) else None
            case FieldType.DATETIME:
                parsed = _time(value) if isinstance(value, str) else None
            case FieldType.STRINGS:
                parsed = value if isinstance(value, list) and all(map(_is_text, value)) else None
        if parsed is None:
            raise ValueError(f"is {short(value)}; expected {self.expected}")
        return parsed


Fields = Mapping[str, FieldType]


def is_name(name: str) -> bool:
    """Whether a field may have that name."""
    if not name or name.startswith(PREFIX) or not _is_unicode(name):
        return False
    return len(name.encode()) <= MAX_FIELD_NAME_BYTES


def field_values(fields: Fields, key: str, metadata: Mapping[str, Any]) -> list[Value | None]:
    """What document `key` has in each field, None where it is absent or null. Raises FieldValueError."""
    values: list[Value | None] = []
    for name, kind in fields.items():
        given = metadata.get(name)
        try:
            values.append(None if given is None else kind.parse(given))
        except ValueError as error:
            raise FieldValueError(
                f"metadata field {name!r} of document {short(key)} {error}, as the field is {kind.value}"
            ) from None
    return values


def short(value: object) -> str:
    """A value for a message, cut where it is long."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # An integer of more digits than Python writes out.
        return f"{type(value).__name__} of too many digits"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    """False where there is half of a surrogate pair, which JSON can escape and UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: int | float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    # Adding zero makes -0.0 the 0.0 it equals.
    return number + 0.0 if math.isfinite(number) else None


def _time(value: str) -> datetime | None:
    try:
        # Python 3.10 reads no "Z".
        time = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value)
        return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
