"""How the store keeps metadata fields and writes their values (their types: tridex.common.fields).

The column of a field has a number for a name, so no name of a user ever becomes part of SQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from tridex.common.fields import (
    MAX_FIELD_NAME_BYTES,
    MAX_FIELDS,
    PREFIX,
    Fields,
    FieldType,
    FieldValueError,
    Value,
    field_values,
    is_name,
    short,
)
from tridex.index.errors import InvalidDocumentError, InvalidFieldError

_COLUMN = "field_"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


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


def first_columns(fields: Fields) -> dict[str, str]:
    """The store's column of each field of a new collection."""
    return {name: column_name(i) for i, name in enumerate(fields)}


def column_name(number: int) -> str:
    """The name of a field's column."""
    return f"{_COLUMN}{number}"


def is_column(name: str) -> bool:
    """Whether a column of the store is a field's."""
    return name.startswith(_COLUMN)


def arrow_type(kind: FieldType) -> pa.DataType:
    """The type of a field's column."""
    return {
        FieldType.STR: pa.string(),
        FieldType.INT: pa.int64(),
        FieldType.FLOAT: pa.float64(),
        FieldType.BOOL: pa.bool_(),
        FieldType.DATETIME: pa.timestamp("us", tz="UTC"),
        FieldType.STRINGS: pa.list_(pa.string()),
    }[kind]


def sql_literal(kind: FieldType, value: Value) -> str:
    """A parsed value as a literal of the store's SQL; quotes are doubled, the one character that could end it."""
    if isinstance(value, list):
        return f"make_array({', '.join(sql_literal(FieldType.STR, item) for item in value)})"
    if isinstance(value, datetime):
        microseconds = (value - _EPOCH) // timedelta(microseconds=1)
        return f"""arrow_cast({microseconds}, 'Timestamp(Microsecond, Some("UTC"))')"""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if kind is FieldType.INT:
        # As a bare literal, the lowest integer would be read as the negative of one that is too large.
        return f"CAST('{value}' AS BIGINT)" if value == -(2**63) else str(value)
    return str(value).lower()


def column_values(fields: Fields, key: str, metadata: Mapping[str, Any]) -> list[Value | None]:
    """What document `key` has in each field, None where it is absent or null. Raises InvalidDocumentError."""
    try:
        return field_values(fields, key, metadata)
    except FieldValueError as error:
        raise InvalidDocumentError(str(error)) from None
