"""LlamaIndex's filters in the server's form, against LlamaIndex's own evaluation of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from filter_model import matches
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from tridex.client import InvalidArgument
from tridex.integrations.llama_index.filters import server_filters

VALUES: dict[str, list[Any]] = {"year": [2019, 2020, 2021], "kind": ["paper", "note", ""]}
TAGS = st.lists(st.sampled_from("abc"), max_size=3, unique=True)
ALONE = [FilterOperator.EQ, FilterOperator.NE, FilterOperator.GT, FilterOperator.GTE, FilterOperator.LT]
METADATA = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([*some, None]) for name, some in VALUES.items()} | {"tags": TAGS | st.none()}
)
REFUSED = (FilterOperator.TEXT_MATCH_INSENSITIVE, FilterOperator.IS_EMPTY)


OF_TEXTS = {
    FilterOperator.CONTAINS: st.sampled_from("abc"),
    FilterOperator.ANY: TAGS,
    FilterOperator.ALL: TAGS,
    FilterOperator.TEXT_MATCH: st.sampled_from(["paper", "ape", "Ape", "not", ""]),
}
PART = MetadataFilter(key="kind", operator=FilterOperator.TEXT_MATCH, value="ape")


@st.composite
def conditions(draw: st.DrawFn) -> MetadataFilter:
    if draw(st.booleans()):
        operator = draw(st.sampled_from(sorted(OF_TEXTS)))
        key = "kind" if operator is FilterOperator.TEXT_MATCH else "tags"
        return MetadataFilter(key=key, operator=operator, value=draw(OF_TEXTS[operator]))
    key = draw(st.sampled_from(sorted(VALUES)))
    operator = draw(st.sampled_from([*ALONE, FilterOperator.LTE, FilterOperator.IN, FilterOperator.NIN]))
    value = st.sampled_from(VALUES[key])
    several = operator in (FilterOperator.IN, FilterOperator.NIN)
    return MetadataFilter(key=key, operator=operator, value=draw(st.lists(value, max_size=3) if several else value))


@settings(max_examples=300, deadline=None)
@given(st.lists(conditions(), min_size=1, max_size=3), st.sampled_from(FilterCondition), METADATA)
@example([PART], FilterCondition.AND, {"kind": "paper"})
def test_a_filter_selects_what_llama_index_selects(
    several: list[MetadataFilter], joined: FilterCondition, metadata: dict[str, Any]
) -> None:
    filters = MetadataFilters(filters=several, condition=joined)
    translated = server_filters(filters)
    assert translated is not None
    assert matches(translated, metadata) == build_metadata_filter_fn(lambda _: metadata, filters)("node")


def test_filters_nest() -> None:
    """Which LlamaIndex's own evaluation does not know."""
    year = MetadataFilter(key="year", value=2020)
    either = MetadataFilters(
        filters=[MetadataFilter(key="kind", value="paper"), MetadataFilter(key="kind", value="note")],
        condition=FilterCondition.OR,
    )
    translated = server_filters(MetadataFilters(filters=[year, either]))
    assert translated is not None
    assert matches(translated, {"year": 2020, "kind": "note"})
    assert not matches(translated, {"year": 2020})


def test_no_filters() -> None:
    assert server_filters(None) is None
    assert server_filters(MetadataFilters(filters=[])) is None


@pytest.mark.parametrize(
    ("given", "named"),
    [
        *((MetadataFilter(key="kind", value="a", operator=one), f"for 'kind', got {one.value}") for one in REFUSED),
        (MetadataFilters(filters=[]), "conditions in nested MetadataFilters"),
    ],
)
def test_what_cannot_be_expressed_is_refused(given: MetadataFilter | MetadataFilters, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        server_filters(MetadataFilters(filters=[given]))


def test_the_table_of_the_documentation_is_right() -> None:
    known = {*ALONE, FilterOperator.LTE, FilterOperator.IN, FilterOperator.NIN, *OF_TEXTS}
    assert known.union(REFUSED) == set(FilterOperator), "each is compared with LlamaIndex's own above, or refused"
    table = (Path(__file__).parents[2] / "docs" / "guides" / "frameworks.md").read_text()
    (row,) = (line for line in table.splitlines() if "`MetadataFilters`" in line)
    assert set(re.findall(r"all operators but `(\w+)` and `(\w+)`", row)[0]) == {one.value for one in REFUSED}
