"""LlamaIndex's filters in the server's form."""

from __future__ import annotations

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from tridex.client import InvalidArgument
from tridex.integrations.core.filters import Condition, all_of, any_of, compare, none_of

_OPERATORS = {
    FilterOperator.EQ: "==",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.IN: "in",
    FilterOperator.NIN: "not in",
    FilterOperator.CONTAINS: "contains",
    FilterOperator.ANY: "contains_any",
    FilterOperator.ALL: "contains_all",
    FilterOperator.TEXT_MATCH: "contains",
}
_JOINS = {FilterCondition.AND: all_of, FilterCondition.OR: any_of, FilterCondition.NOT: none_of}


def server_filters(given: MetadataFilters | None) -> Condition | None:
    """The `filters` of a search. Raises InvalidArgument for an operator that the server does not have."""
    if given is None or not given.filters:
        return None
    return _JOINS[given.condition or FilterCondition.AND]([_condition(part) for part in given.filters])


def _condition(given: MetadataFilter | MetadataFilters) -> Condition:
    if isinstance(given, MetadataFilters):
        nested = server_filters(given)
        if nested is None:
            raise InvalidArgument("filters: expected conditions in nested MetadataFilters, got none")
        return nested
    if given.operator not in _OPERATORS:
        known = ", ".join(operator.value for operator in _OPERATORS)
        raise InvalidArgument(f"filters: expected an operator of {known} for {given.key!r}, got {given.operator.value}")
    return compare(given.key, _OPERATORS[given.operator], given.value)
