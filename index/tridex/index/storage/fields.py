"""Metadata fields: the types there are, what a value of each is, and how the store keeps and writes it.

The column of a field has a number for a name, so no name of a user ever becomes part of SQL.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pyarrow as pa

from tridex.index.errors import InvalidDocumentError, InvalidFieldError

MAX_FIELDS = 64
"""Declared fields of a collection; each is a column of the store."""

MAX_FIELD_NAME_BYTES = 128
"""UTF-8 bytes of a declared field's name."""

PREFIX = "meta."
"""Filters may write it before a field's name, as Haystack does."""

_COLUMN = "field_"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

Value = str | int | float | bool | datetime | list[str]


class FieldType(Enum):
    """The type of a declared field; the value is the name that users type."""

    STR = "str"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    STRINGS = "list[str]"

    @property
    def arrow(self) -> pa.DataType:
        """The type of the store's column."""
        return {
            FieldType.STR: pa.string(),
            FieldType.INT: pa.int64(),
            FieldType.FLOAT: pa.float64(),
            FieldType.BOOL: pa.bool_(),
            FieldType.DATETIME: pa.timestamp("us", tz="UTC"),
            FieldType.STRINGS: pa.list_(pa.string()),
        }[self]

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

    def sql(self, value: Value) -> str:
        """A parsed value as a literal of the store's SQL; quotes are doubled, the one character that could end it."""
        if isinstance(value, list):
            return f"make_array({', '.join(map(FieldType.STR.sql, value))})"
        if isinstance(value, datetime):
            microseconds = (value - _EPOCH) // timedelta(microseconds=1)
            return f"""arrow_cast({microseconds}, 'Timestamp(Microsecond, Some("UTC"))')"""
        if isinstance(value, str):
            return "'" + value.replace("'", "''") + "'"
        if self is FieldType.INT:
            # As a bare literal, the lowest integer would be read as the negative of one that is too large.
            return f"CAST('{value}' AS BIGINT)" if value == -(2**63) else str(value)
        return str(value).lower()


Fields = Mapping[str, FieldType]


def declared_fields(declaration: Any) -> dict[str, FieldType]:
    """Reads a declaration of metadata fields.

    Args:
        declaration: {"year": "int", ...}, as decoded from JSON; the types are FieldType's values.

    Returns:
        The types by name.

    Raises:
        InvalidFieldError: No such object, too many fields, a name or a type that cannot be.
    """
    if not isinstance(declaration, dict) or len(declaration) > MAX_FIELDS:
        raise InvalidFieldError(f"fields is {short(declaration)}; expected an object of at most {MAX_FIELDS} fields")
    for name in declaration:
        if not is_name(name):
            raise InvalidFieldError(
                f"fields declares {short(name)}; expected names of 1 to {MAX_FIELD_NAME_BYTES} bytes of UTF-8 that do "
                f"not start with {PREFIX!r}"
            )
    try:
        return {name: FieldType(kind) for name, kind in declaration.items()}
    except ValueError:
        kinds = ", ".join(kind.value for kind in FieldType)
        wrong = next(name for name, kind in declaration.items() if kind not in [one.value for one in FieldType])
        raise InvalidFieldError(f"fields[{wrong!r}] is {short(declaration[wrong])}; expected one of: {kinds}") from None


def field_changes(changes: Any) -> dict[str, FieldType | None]:
    """Reads changes of fields: as `declared_fields`, null for a field to let go."""
    if not isinstance(changes, dict) or not changes:
        raise InvalidFieldError(f"fields is {short(changes)}; expected an object of fields that is not empty")
    kept = declared_fields({name: kind for name, kind in changes.items() if kind is not None})
    return {name: kept.get(name) for name in changes}


def is_name(name: str) -> bool:
    """Whether a field may have that name."""
    if not name or name.startswith(PREFIX) or not _is_unicode(name):
        return False
    return len(name.encode()) <= MAX_FIELD_NAME_BYTES


def first_columns(fields: Fields) -> dict[str, str]:
    """The store's column of each field of a new collection."""
    return {name: column_name(i) for i, name in enumerate(fields)}


def column_name(number: int) -> str:
    """The name of a field's column."""
    return f"{_COLUMN}{number}"


def is_column(name: str) -> bool:
    """Whether a column of the store is a field's."""
    return name.startswith(_COLUMN)


def column_values(fields: Fields, key: str, metadata: Mapping[str, Any]) -> list[Value | None]:
    """What document `key` has in each declared field, None where it is absent or null. Raises InvalidDocumentError."""
    values: list[Value | None] = []
    for name, kind in fields.items():
        given = metadata.get(name)
        try:
            values.append(None if given is None else kind.parse(given))
        except ValueError as error:
            raise InvalidDocumentError(
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
