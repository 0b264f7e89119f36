"""LangChain's filters in the server's form.

LangChain has no dialect of its own. The `filter` of a search may be

    {"year": {"$gte": 2020}, "kind": "paper"}                    as Chroma, PGVector and Pinecone write it
    Comparison(Comparator.GTE, "year", 2020)                     langchain_core.structured_query
    {"field": "year", "operator": ">=", "value": 2020}           Tridex's own (docs/guides/filters.md)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.structured_query import (
    Comparator,
    Comparison,
    FilterDirective,
    Operation,
    Operator,
    StructuredQuery,
    Visitor,
)

from tridex.client import InvalidArgument
from tridex.integrations.core.filters import Condition, all_of, any_of, compare, none_of

_OPERATORS = {
    "$eq": "==",
    "$ne": "!=",
    "$gt": ">",
    "$gte": ">=",
    "$lt": "<",
    "$lte": "<=",
    "$in": "in",
    "$nin": "not in",
    "$contains": "contains",
}
_JOINS = {"$and": all_of, "$or": any_of, "$nor": none_of}
_COMPARATORS = {
    Comparator.EQ: "==",
    Comparator.NE: "!=",
    Comparator.GT: ">",
    Comparator.GTE: ">=",
    Comparator.LT: "<",
    Comparator.LTE: "<=",
    Comparator.IN: "in",
    Comparator.NIN: "not in",
    Comparator.CONTAIN: "contains",
}
_OPERATIONS = {Operator.AND: all_of, Operator.OR: any_of, Operator.NOT: none_of}


class TridexTranslator(Visitor):
    """Translates a structured query: `SelfQueryRetriever(structured_query_translator=TridexTranslator(), ...)`."""

    allowed_comparators = tuple(_COMPARATORS)
    allowed_operators = tuple(_OPERATIONS)

    def visit_operation(self, operation: Operation) -> Condition:
        """All, any or none of its arguments."""
        self._validate_func(operation.operator)
        return _OPERATIONS[operation.operator]([argument.accept(self) for argument in operation.arguments])

    def visit_comparison(self, comparison: Comparison) -> Condition:
        """One condition. Raises ValueError for a comparator that is not of `allowed_comparators`."""
        self._validate_func(comparison.comparator)
        value = comparison.value
        if isinstance(value, Mapping) and value.get("type") in ("date", "datetime"):  # as the query's parser has them
            value = value[value["type"]]
        return compare(comparison.attribute, _COMPARATORS[comparison.comparator], value)

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """The query and the keyword arguments of a search."""
        given = structured_query.filter
        return structured_query.query, {} if given is None else {"filter": given.accept(self)}


def server_filters(given: Mapping[str, Any] | FilterDirective | None) -> Mapping[str, Any] | None:
    """The `filters` of a search. Raises InvalidArgument for what cannot be expressed."""
    if given is None:
        return None
    if isinstance(given, FilterDirective):
        condition: Condition = given.accept(TridexTranslator())
        return condition
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"filter: expected a mapping or a FilterDirective, got {given!r}")
    if "operator" in given and given.keys() & {"field", "conditions"}:
        return given
    return all_of([_condition(key, value) for key, value in given.items()]) if given else None


def _condition(key: str, value: Any) -> Condition:
    """Of one entry: a field with what it must be, or `$and`, `$or`, `$nor` with what they join."""
    if key in _JOINS:
        if not isinstance(value, list) or not value or not all(isinstance(part, Mapping) and part for part in value):
            raise InvalidArgument(f"filter: expected filters in a list below {key!r}, got {value!r}")
        return _JOINS[key]([all_of([_condition(*item) for item in part.items()]) for part in value])
    if key == "$not":
        return none_of([_condition("$and", [value])])
    if key.startswith("$"):
        raise InvalidArgument(f"filter: expected a field or one of {', '.join([*_JOINS, '$not'])}, got {key!r}")
    if not isinstance(value, Mapping):
        return compare(key, "==", value)
    if not value or not value.keys() <= _OPERATORS.keys():
        raise InvalidArgument(f"filter: expected {key!r} with some of {', '.join(_OPERATORS)}, got {dict(value)!r}")
    return all_of([compare(key, _OPERATORS[operator], operand) for operator, operand in value.items()])
