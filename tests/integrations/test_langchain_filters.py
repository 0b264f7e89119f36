"""LangChain's filters in the server's form."""

from __future__ import annotations

import pytest
from filter_model import matches
from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery

from tridex.client import InvalidArgument
from tridex.integrations.langchain import TridexTranslator
from tridex.integrations.langchain.filters import server_filters

ROWS = [
    {},
    {"year": 2019, "kind": "paper"},
    {"year": 2020, "kind": "paper"},
    {"year": 2021, "kind": "note"},
    {"year": 2022},
]


def selected(given: object) -> list[int]:
    """Positions of the rows that the translated filter selects."""
    translated = server_filters(given)  # type: ignore[arg-type]
    return [i for i, row in enumerate(ROWS) if translated is None or matches(translated, row)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        ({}, [0, 1, 2, 3, 4]),
        ({"kind": "paper"}, [1, 2]),
        ({"kind": None}, [0, 4]),
        ({"kind": "paper", "year": 2020}, [2]),
        ({"year": {"$gte": 2020, "$lt": 2022}}, [2, 3]),
        ({"year": {"$gt": 2020}}, [3, 4]),
        ({"year": {"$lte": 2020}}, [1, 2]),
        ({"year": {"$eq": 2020}}, [2]),
        ({"year": {"$ne": 2020}}, [0, 1, 3, 4]),
        ({"year": {"$in": [2019, 2022]}}, [1, 4]),
        ({"year": {"$nin": [2019, 2022]}}, [0, 2, 3]),
        ({"$or": [{"kind": "note"}, {"year": 2019, "kind": "paper"}]}, [1, 3]),
        ({"$and": [{"kind": "paper"}, {"year": {"$gt": 2019}}]}, [2]),
        ({"$nor": [{"kind": "note"}, {"year": 2019}]}, [0, 2, 4]),
        ({"$not": {"kind": "paper", "year": 2020}}, [0, 1, 3, 4]),
        ({"field": "meta.year", "operator": "==", "value": 2020}, [2]),
        ({"operator": "NOT", "conditions": [{"field": "kind", "operator": "==", "value": "paper"}]}, [0, 3, 4]),
        ({"operator": "a metadata field of that name"}, []),
        (Comparison(Comparator.GTE, "year", 2021), [3, 4]),
        (Comparison(Comparator.NIN, "year", [2021]), [0, 1, 2, 4]),
        (
            Operation(
                Operator.OR,
                [
                    Comparison(Comparator.EQ, "kind", "note"),
                    Operation(Operator.NOT, [Comparison(Comparator.NE, "year", 2022)]),
                ],
            ),
            [3, 4],
        ),
    ],
)
def test_a_filter_selects_what_it_says(given: object, expected: list[int]) -> None:
    assert selected(given) == expected


def test_a_structured_query_becomes_arguments_of_a_search() -> None:
    translator = TridexTranslator()
    date = Comparison(Comparator.LT, "seen", {"type": "date", "date": "2024-05-01"})
    assert translator.visit_structured_query(StructuredQuery("late", date)) == (
        "late",
        {"filter": {"field": "seen", "operator": "<", "value": "2024-05-01"}},
    )
    assert translator.visit_structured_query(StructuredQuery("late", None)) == ("late", {})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"year": {"$regex": "20.."}}, "'year' with some of .*regex"),
        ({"year": {}}, "'year' with some of"),
        ({"year": {"$gt": 1, "typo": 2}}, "'year' with some of .*typo"),
        ({"$where": "1"}, r"a field or one of .*'\$where'"),
        ({"$or": {"year": 1}}, r"filters in a list below '\$or'"),
        ({"$or": []}, r"filters in a list below '\$or'"),
        ({"$and": [{"year": 1}, {}]}, r"filters in a list below '\$and'"),
        ("year > 2020", "a mapping or a FilterDirective, got 'year > 2020'"),
    ],
)
def test_what_cannot_be_expressed_is_refused(given: object, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        server_filters(given)  # type: ignore[arg-type]


def test_comparators_that_the_server_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="disallowed comparator like"):
        server_filters(Comparison(Comparator.LIKE, "kind", "pap"))
