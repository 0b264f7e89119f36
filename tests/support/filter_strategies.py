"""Metadata and filters for property tests: values that meet often, and those that SQL and JSON get wrong."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

FIELDS = {"kind": "str", "year": "int", "price": "float", "open": "bool", "seen": "datetime", "tags": "list[str]"}

VALUES: dict[str, list[Any]] = {
    "kind": ["", "a", "A", "it's", "''", "\\", 'qu"ote', "a\nb", "NULL", "é", "e\u0301", "\U0001f600", "%_"],
    "year": [-(2**63), -1, 0, 1, 2020, 2**53 + 1, 2**63 - 1],
    "price": [-1e308, -1.5, -0.0, 0, 5e-324, 0.1, 2020, 2**53, 1e308],
    "open": [True, False],
    "seen": [
        "0001-01-01",
        "1969-12-31T23:59:59.999999+00:00",
        "2020-02-29",
        "2020-02-29T01:00:00+01:00",
        "2020-02-29T00:00:00.000001",
        "9999-12-31T23:59:59.999999+00:00",
    ],
    "tags": [[], ["a"], ["a", "it's", "a"], ["A", "%_", "é"], [""]],
}

_ORDERED = ("year", "price", "seen")


def metadata() -> st.SearchStrategy[dict[str, Any]]:
    """Metadata with any of the declared fields, null or not, and perhaps others."""
    declared = {name: st.sampled_from([*values, None]) for name, values in VALUES.items()}
    return st.fixed_dictionaries({}, optional={**declared, "other": st.lists(st.integers(), max_size=2)})


@st.composite
def _comparisons(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(VALUES)))
    if name == "tags" or (name == "kind" and draw(st.booleans())):
        return draw(_containing(name))
    operators = ["==", "!=", "in", "not in"] + ["<", "<=", ">", ">="] * (name in _ORDERED)
    operator = draw(st.sampled_from(operators))
    value = st.sampled_from([*VALUES[name], None])
    given = draw(st.lists(value, max_size=4) if "in" in operator else value)
    return {"field": draw(st.sampled_from(["", "meta."])) + name, "operator": operator, "value": given}


@st.composite
def _containing(draw: st.DrawFn, name: str) -> dict[str, Any]:
    operators = (
        ["contains", "starts_with"] if name == "kind" else ["contains", "contains_any", "contains_all", "==", "!="]
    )
    operator = draw(st.sampled_from(operators))
    value: Any = None
    if operator not in ("==", "!="):
        item = st.sampled_from(["a", "A", "it's", "%_", "e", "", "none"])
        value = draw(st.lists(item, max_size=3) if operator[-3:] in ("any", "all") else item | st.none())
    return {"field": name, "operator": operator, "value": value}


def filters() -> st.SearchStrategy[dict[str, Any]]:
    """Filters over FIELDS, nested a few levels deep."""
    return st.recursive(
        _comparisons(),
        lambda inner: st.fixed_dictionaries(
            {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(inner, min_size=1, max_size=3)}
        ),
        max_leaves=8,
    )
