"""Filters: conditions on declared metadata fields, as Haystack writes them, translated to the store's SQL.

    {"field": "meta.year", "operator": ">=", "value": 2020}                         "meta." may be left out
    {"operator": "AND" | "OR" | "NOT", "conditions": [...]}                         NOT: not all of them hold

A missing field (absent or null) is like Python's None: equal to null, different from every value, in no list without
null, and neither smaller nor larger than anything. So != and "not in" also match documents without the field, and NOT
matches exactly the documents that its conditions together do not.

SQL's own logic has three values; here every comparison is true or not, and NOT moves down to the comparisons. That also
keeps SQL from nesting NOTs: 20 of them, one inside the other, took the store 6 ms over 500,000 documents; 50 did not
end within minutes.
"""

from __future__ import annotations

from typing import Any

from tridex.index.errors import InvalidFilterError

from .fields import PREFIX, Fields, FieldType, columns, short

MAX_DEPTH = 16
"""Conditions inside conditions; the store's SQL parser gives up between 16 and 24."""

MAX_CONDITIONS = 256
"""Conditions of one filter, on all levels: 13 ms over 1,000 documents."""

MAX_VALUES = 10_000
"""Values of one list: 30 to 48 ms over 1,000 documents."""

_LOGIC = ("AND", "OR", "NOT")
_ORDER = ("<", "<=", ">", ">=")
_OPERATORS = ("==", "!=", *_ORDER, "in", "not in")


def to_sql(filters: Any, fields: Fields) -> str:
    """The SQL that selects the documents which match.

    Args:
        filters: A condition, as decoded from JSON.
        fields: The fields that the collection declares.

    Raises:
        InvalidFilterError: Naming the place in the filter.
    """
    return _Translation(fields).condition(filters, "filters", depth=1, negated=False)


class _Translation:
    """One filter on its way to SQL; counts conditions."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._columns = columns(fields)
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
            declared = ", ".join(self._fields) or "none"
            raise InvalidFilterError(
                f"{place}.field is {short(field)}; expected a field that the collection declares: {declared}"
            )
        kind, column = self._fields[name], self._columns[name]
        if operator in _ORDER:
            if not kind.ordered:
                raise InvalidFilterError(
                    f"{place}.operator is {operator!r} on field {name!r}, which is {kind.value}; "
                    "expected ==, !=, in or not in"
                )
            true = f"{column} {operator} {_literal(kind, value, name, place)}" if value is not None else "false"
        elif operator in ("in", "not in"):
            if not isinstance(value, list) or len(value) > MAX_VALUES:
                raise InvalidFilterError(
                    f"{place}.value is {short(value)}; expected a list of at most {MAX_VALUES} values"
                )
            literals = [_literal(kind, one, name, place) for one in value if one is not None]
            alternatives = [f"{column} IN ({', '.join(literals)})"] if literals else []
            alternatives += [f"{column} IS NULL"] if len(literals) < len(value) else []
            true = " OR ".join(alternatives) or "false"
        else:
            true = f"{column} = {_literal(kind, value, name, place)}" if value is not None else f"{column} IS NULL"
        negated ^= operator in ("!=", "not in")
        return f"(({true}) IS NOT TRUE)" if negated else f"({true})"


def _literal(kind: FieldType, value: Any, name: str, place: str) -> str:
    try:
        return kind.sql(kind.parse(value))
    except ValueError as error:
        raise InvalidFilterError(f"{place}.value {error}, as field {name!r} is {kind.value}") from None
