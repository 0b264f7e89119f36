"""Filters in the server's form, of which Haystack's dialect is a part; each adapter translates its own into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Condition: TypeAlias = dict[str, Any]


def compare(field: str, operator: str, value: Any) -> Condition:
    """A condition on one field."""
    return {"field": field, "operator": operator, "value": value}


def all_of(conditions: Sequence[Condition]) -> Condition:
    """All of one or more conditions hold."""
    return _joined("AND", conditions)


def any_of(conditions: Sequence[Condition]) -> Condition:
    """One or more of the conditions hold."""
    return _joined("OR", conditions)


def none_of(conditions: Sequence[Condition]) -> Condition:
    """None of one or more conditions holds."""
    return {"operator": "NOT", "conditions": [any_of(conditions)]}


def _joined(operator: str, conditions: Sequence[Condition]) -> Condition:
    return conditions[0] if len(conditions) == 1 else {"operator": operator, "conditions": list(conditions)}
