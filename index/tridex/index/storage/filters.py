"""Filters: conditions on metadata fields, as Haystack writes them, translated to the store's SQL.

    {"field": "meta.year", "operator": ">=", "value": 2020}                         "meta." may be left out
    {"field": "tags", "operator": "contains_any", "value": ["a", "b"]}              of a field that is list[str]
    {"operator": "AND" | "OR" | "NOT", "conditions": [...]}                         NOT: not all of them hold

A missing field (absent or null) is like Python's None: equal to null, different from every value, in no list without
null, and neither smaller nor larger than anything, and it contains nothing. So != and "not in" also match documents
without the field, and NOT matches exactly the documents that its conditions together do not.

SQL's own logic has three values; here every comparison is true or not, and NOT moves down to the comparisons. That also
keeps SQL from nesting NOTs: 20 of them, one inside the other, took the store 6 ms over 500,000 documents; 50 did not
end within minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tridex.common.fields import PREFIX, FieldType, short
from tridex.index.errors import InvalidFilterError

from .fields import sql_literal
from .spec import CollectionSpec

MAX_DEPTH = 16
"""Conditions inside conditions; the store's SQL parser gives up between 16 and 24."""

MAX_CONDITIONS = 256
"""Conditions of one filter, on all levels: 13 ms over 1,000 documents."""

MAX_VALUES = 10_000
"""Values of one list: 30 to 48 ms over 1,000 documents."""

_LOGIC = ("AND", "OR", "NOT")
_EQUAL = ("==", "!=")
_ORDER = ("<", "<=", ">", ">=")
_LIST = ("in", "not in")
_TEXT = ("starts_with", "contains")
"""`contains`: the text has the value as a part; letters count as they are written."""
_STRINGS = ("contains", "contains_any", "contains_all")
"""The list has the value as an item, any of the values, all of them."""
_OF_LISTS = (*_LIST, "contains_any", "contains_all")
_OPERATORS = tuple(dict.fromkeys((*_EQUAL, *_ORDER, *_LIST, *_TEXT, *_STRINGS)))


def _operators(kind: FieldType) -> tuple[str, ...]:
    """Those that apply to a field of this type."""
    match kind:
        case FieldType.STRINGS:
            return (*_EQUAL, *_STRINGS)
        case FieldType.STR:
            return (*_EQUAL, *_LIST, *_TEXT)
        case FieldType.BOOL:
            return (*_EQUAL, *_LIST)
        case _:
            return (*_EQUAL, *_ORDER, *_LIST)


def to_sql(filters: Any, spec: CollectionSpec) -> str:
    """The SQL that selects the documents which match.

    Args:
        filters: A condition, as decoded from JSON.
        spec: The collection's, for its fields.

    Raises:
        InvalidFilterError: Naming the place in the filter.
    """
    return _Translation(spec).condition(filters, "filters", depth=1, negated=False)


class _Translation:
    """One filter on its way to SQL; counts conditions."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._fields = spec.fields
        self._columns = spec.columns
        self._conditions = 0

    def condition(self, condition: Any, place: str, depth: int, negated: bool) -> str:
        self._conditions += 1
        if depth > MAX_DEPTH:
            raise InvalidFilterError(f"filters nests conditions deeper than {MAX_DEPTH} levels; expected at most that")
        if self._conditions > MAX_CONDITIONS:
            raise InvalidFilterError(f"filters has more than {MAX_CONDITIONS} conditions; expected at most that")
        operator = condition.get("operator") if isinstance(condition, dict) else None
        if operator in _LOGIC and condition.keys() == {"operator", "conditions"}:
            return self._logic(operator, condition["conditions"], place, depth, negated)
        if operator in _OPERATORS and condition.keys() == {"field", "operator", "value"}:
            return self._comparison(condition["field"], operator, condition["value"], place, negated)
        if operator is not None and operator not in (*_LOGIC, *_OPERATORS):
            expected = ", ".join((*_OPERATORS, *_LOGIC))
            raise InvalidFilterError(f"{place}.operator is {short(operator)}; expected one of: {expected}")
        raise InvalidFilterError(
            f"{place} is {short(condition)}; expected an object of field, operator and value, or of operator "
            "(AND, OR, NOT) and conditions"
        )

    def _logic(self, operator: str, conditions: Any, place: str, depth: int, negated: bool) -> str:
        if not isinstance(conditions, list) or not conditions:
            raise InvalidFilterError(f"{place}.conditions is {short(conditions)}; expected a list that is not empty")
        negated ^= operator == "NOT"
        translated = [
            self.condition(one, f"{place}.conditions[{i}]", depth + 1, negated) for i, one in enumerate(conditions)
        ]
        # De Morgan: not (a and b) is (not a) or (not b).
        return "(" + (" OR " if (operator == "OR") != negated else " AND ").join(translated) + ")"

    def _comparison(self, field: Any, operator: str, value: Any, place: str, negated: bool) -> str:
        name = field.removeprefix(PREFIX) if isinstance(field, str) else ""
        if name not in self._fields:
            existing = ", ".join(self._fields) or "none"
            raise InvalidFilterError(
                f"{place}.field is {short(field)}; expected a field of the collection: {existing}. Metadata that is no "
                "field becomes one, without encoding anything, by add_fields or `tridex index fields`"
            )
        kind, column = self._fields[name], self._columns[name]
        if operator not in _operators(kind):
            raise InvalidFilterError(
                f"{place}.operator is {operator!r} on field {name!r}, which is {kind.value}; expected one of: "
                f"{', '.join(_operators(kind))}"
            )
        if kind is FieldType.STRINGS and operator in _EQUAL and value is not None:
            raise InvalidFilterError(
                f"{place}.value is {short(value)} on field {name!r}, which is {kind.value}; expected null, or one of: "
                f"{', '.join(_STRINGS)}"
            )
        if operator in _OF_LISTS and not (isinstance(value, list) and len(value) <= MAX_VALUES):
            raise InvalidFilterError(f"{place}.value is {short(value)}; expected a list of at most {MAX_VALUES} values")
        true = self._true(kind, column, operator, value, lambda one, of=kind: _literal(of, one, name, place))
        negated ^= operator in ("!=", "not in")
        return f"(({true}) IS NOT TRUE)" if negated else f"({true})"

    @staticmethod
    def _true(kind: FieldType, column: str, operator: str, value: Any, literal: Callable[..., str]) -> str:
        """The SQL that is true where the condition holds, that of != and `not in` where it does not."""
        if value is None:
            return f"{column} IS NULL" if operator in _EQUAL else "false"
        match operator:
            case "in" | "not in":
                literals = [literal(one) for one in value if one is not None]
                alternatives = [f"{column} IN ({', '.join(literals)})"] if literals else []
                alternatives += [f"{column} IS NULL"] if len(literals) < len(value) else []
                return " OR ".join(alternatives) or "false"
            case "contains" if kind is FieldType.STRINGS:
                return f"array_has({column}, {literal(value, FieldType.STR)})"
            case "contains_any":
                return f"array_has_any({column}, {literal(value)})" if value else "false"
            case "contains_all":
                return f"array_has_all({column}, {literal(value)})" if value else f"{column} IS NOT NULL"
            case "starts_with" | "contains":
                return f"{operator}({column}, {literal(value)})"
            case "==" | "!=":
                return f"{column} = {literal(value)}"
            case _:
                return f"{column} {operator} {literal(value)}"


def _literal(kind: FieldType, value: Any, name: str, place: str) -> str:
    try:
        return sql_literal(kind, kind.parse(value))
    except ValueError as error:
        raise InvalidFilterError(f"{place}.value {error}, as field {name!r} is {kind.value}") from None
