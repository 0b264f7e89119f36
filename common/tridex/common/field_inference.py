"""Fields inferred from metadata: a key becomes a field where all of its values are of one type.

An integer among other numbers makes them `float`, a time among other strings makes them `str`; an empty list and null
say nothing. A key with values that no type has (objects, lists of numbers) is no field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .fields import MAX_FIELDS, Fields, FieldType, FieldValueError, is_name, short

INFERRED_DOCUMENTS = 1000
"""A collection infers fields from its first documents, while it holds fewer than these: changing the fields reads the
metadata of all of them, some 10 ms."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+([Zz]|[+-][0-9:]+)?)?")
"""Only what is written like a date is taken for one: 20200101 is not."""

_WIDER = {
    frozenset({FieldType.INT, FieldType.FLOAT}): FieldType.FLOAT,
    frozenset({FieldType.DATETIME, FieldType.STR}): FieldType.STR,
}


class FieldInference:
    """Infers fields from the metadata of documents, one by one.

    Args:
        known: Fields that are inferred already.
    """

    def __init__(self, known: Fields | None = None) -> None:
        self._fields: dict[str, FieldType] = dict(known or {})
        self._no_fields: set[str] = set()
        self._lists: set[str] = set()
        """Keys that have had empty lists and no other value."""

    @property
    def fields(self) -> Fields:
        """What was inferred so far."""
        return dict(self._fields)

    def add(self, key: str, metadata: Mapping[str, Any]) -> None:
        """Takes a document's metadata into account.

        Raises:
            FieldValueError: A value is of another type than those before.
        """
        for name, value in metadata.items():
            if name in self._no_fields or value is None:
                continue
            known = self._fields.get(name)
            if value == [] and known in (None, FieldType.STRINGS):
                self._lists.add(name)
                continue
            kind = _type_of(value)
            if known is None:
                self._begin(name, kind)
            elif kind is not known:
                wider = _WIDER.get(frozenset({known, kind})) if kind else None
                if wider is None:
                    raise FieldValueError(
                        f"metadata field {name!r} of document {short(key)} is {short(value)}; expected "
                        f"{known.expected}, as in the documents before it: declare the fields that filters can ask "
                        "for, and leave out this one, to have values of several types"
                    )
                self._fields[name] = wider

    def _begin(self, name: str, kind: FieldType | None) -> None:
        mixed = name in self._lists and kind is not FieldType.STRINGS
        if kind is None or mixed or len(self._fields) == MAX_FIELDS or not is_name(name):
            self._no_fields.add(name)
        else:
            self._fields[name] = kind


def _type_of(value: Any) -> FieldType | None:
    """The narrowest type of a value, None where there is none."""
    kinds = [FieldType.BOOL, FieldType.INT, FieldType.FLOAT, FieldType.STR, FieldType.STRINGS]
    if isinstance(value, str) and _TIME.fullmatch(value):
        kinds.insert(0, FieldType.DATETIME)
    return next((kind for kind in kinds if _fits(kind, value)), None)


def _fits(kind: FieldType, value: Any) -> bool:
    try:
        kind.parse(value)
    except ValueError:
        return False
    return True
