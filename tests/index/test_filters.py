"""Filters against a plain dictionary, hostile filters, and metadata that is not what was declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filter_model import matches
from filter_strategies import FIELDS, VALUES, filters, metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tridex.index import (
    CollectionSpec,
    Document,
    Follower,
    InvalidDocumentError,
    InvalidFieldError,
    InvalidFilterError,
    Store,
    declared_fields,
)
from tridex.index.storage.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES
from tridex.kernels import Codec

CPU = torch.device("cpu")
SPEC = CollectionSpec(4, Codec.FLOAT32, "f" * 64, declared_fields(FIELDS))
ONE = np.ones((1, 4), np.float32)


def collection_of(folder: Path, rows: dict[str, dict[str, Any]]):
    collection = Store(folder).create("c", SPEC)
    collection.upsert([Document(key, "", row) for key, row in rows.items()], [ONE] * len(rows))
    return collection


def condition(operator: str, value: Any, field: str = "year") -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory):
    """A document for every value of every field, and some without any."""
    rows: dict[str, dict[str, Any]] = {"none": {}, "null": dict.fromkeys(FIELDS), "undeclared": {"other": [1, {}]}}
    for name, values in VALUES.items():
        rows |= {f"{name}-{i}": {name: value} for i, value in enumerate(values)}
    folder = tmp_path_factory.mktemp("store")
    return Follower(Store(folder), "c", CPU) if collection_of(folder, rows) else None, rows


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=filters())
def test_a_filter_selects_what_the_dictionary_says(every, wanted) -> None:
    follower, rows = every
    expected = {key for key, row in rows.items() if matches(wanted, row)}
    snapshot = follower.snapshot.filtered(wanted)
    (found,) = snapshot.search(torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool), 1000)
    assert set(found.ids) == expected
    assert snapshot.count() == snapshot.collection.count(wanted) == len(expected)
    assert follower.snapshot.filtered(wanted) is snapshot


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.dictionaries(st.text(max_size=5), metadata(), min_size=1, max_size=12), wanted=filters())
def test_scroll_and_delete_follow_the_filter(tmp_path_factory, rows, wanted) -> None:
    rows = {key: row for key, row in rows.items() if not any(0xD800 <= ord(c) <= 0xDFFF for c in key)} or {"a": {}}
    collection = collection_of(tmp_path_factory.mktemp("store"), rows)
    expected = sorted((key for key, row in rows.items() if matches(wanted, row)), key=str.encode)
    found: list[str] = []
    while page := collection.scroll(3, found[-1] if found else None, wanted):
        found += [document.id for document in page]
    assert found == expected
    collection.delete_matching(wanted)
    assert [document.id for document in collection.scroll(100)] == sorted(rows.keys() - set(expected), key=str.encode)


HOSTILE = [
    "' OR 1=1 --",
    "'; DROP TABLE documents; --",
    "\\' OR \\'1\\'=\\'1",
    "'' OR ''=''",
    'x" OR "1"="1',
    "/* */ SELECT * FROM t",
    "NULL",
    "true",
    "%",
    "a\nb\r\0c",
    "\u202e\u0000\U0001f600",
    "' UNION ALL SELECT id FROM t WHERE ''='",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_value_is_a_value(tmp_path: Path, text: str) -> None:
    collection = collection_of(tmp_path, {text: {"kind": text}, "other": {"kind": "k"}})
    assert [d.id for d in collection.scroll(9, filters=condition("==", text, "kind"))] == [text]
    assert [d.id for d in collection.scroll(9, filters=condition("not in", [text], "kind"))] == ["other"]
    collection.delete_matching(condition("in", [text, "nothing"], "kind"))
    assert [d.id for d in collection.scroll(9)] == ["other"]


@pytest.mark.parametrize("name", [*HOSTILE, "id", "field_0", "codes", "select", "Kind", "a b", "größe"])
def test_a_hostile_field_name_is_a_name(tmp_path: Path, name: str) -> None:
    spec = CollectionSpec(4, Codec.FLOAT32, "f" * 64, declared_fields({name: "str", name + "2": "int"}))
    collection = Store(tmp_path).create("c", spec)
    collection.upsert([Document("x", "", {name: "v", name + "2": 1}), Document("y", "", {})], [ONE, ONE])
    assert Store(tmp_path).open("c").spec == spec
    assert [d.id for d in collection.scroll(9, filters=condition("==", "v", name))] == ["x"]
    assert [d.id for d in collection.scroll(9, filters=condition("!=", 1, f"meta.{name}2"))] == ["y"]


def nested(levels: int, operator: str = "NOT") -> dict[str, Any]:
    inner: dict[str, Any] = condition("==", 2020)
    for _ in range(levels - 1):
        inner = {"operator": operator, "conditions": [inner]}
    return inner


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (nested(10_000), f"deeper than {MAX_DEPTH} levels"),
        (nested(MAX_DEPTH + 1, "AND"), f"deeper than {MAX_DEPTH} levels"),
        ({"operator": "OR", "conditions": [condition("==", i) for i in range(MAX_CONDITIONS)]}, "more than 256"),
        (
            condition("in", list(range(MAX_VALUES + 1))),
            r"filters.value is \[0, 1, .*; expected a list of at most 10000",
        ),
        (None, "filters is None; expected an object"),
        ("year = 2020", "filters is 'year = 2020'; expected an object"),
        ([condition("==", 1)], "filters is .*; expected an object"),
        ({}, "filters is {}; expected an object"),
        ({"operator": "=="}, "expected an object of field, operator and value"),
        ({**condition("==", 1), "extra": 1}, "expected an object of field"),
        ({"operator": "AND", "conditions": [], "field": "year"}, "expected an object of field"),
        (condition("LIKE", "x", "kind"), "filters.operator is 'LIKE'; expected one of: ==, !="),
        (condition("and", 1), "filters.operator is 'and'"),
        ({"operator": ["AND"], "conditions": []}, r"filters.operator is \['AND'\]"),
        ({"operator": "AND", "conditions": []}, r"filters.conditions is \[\]; expected a list that is not empty"),
        ({"operator": "OR", "conditions": {"a": 1}}, "filters.conditions is"),
        ({"operator": "OR", "conditions": [condition("==", 1), 7]}, r"filters.conditions\[1\] is 7"),
        (condition("==", 1, "nowhere"), "filters.field is 'nowhere'; expected a field of the collection: kind, year"),
        (condition("==", 1, "1=1 OR id"), "filters.field is '1=1 OR id'"),
        (condition("==", 1, "field_0"), "filters.field is 'field_0'"),
        ({"field": 5, "operator": "==", "value": 1}, "filters.field is 5"),
        ({"field": ["year"], "operator": "==", "value": 1}, r"filters.field is \['year'\]"),
        (condition("==", "2020"), "filters.value is '2020'; expected an integer of 64 bits, as field 'year' is int"),
        (condition("==", True), "filters.value is True; expected an integer"),
        (condition("==", 2**63), "filters.value is 9223372036854775808; expected an integer of 64 bits"),
        (condition("==", 1.5), "filters.value is 1.5"),
        (condition("==", [1]), r"filters.value is \[1\]"),
        (condition("==", {"a": 1}), "filters.value is"),
        (condition("in", 1), "filters.value is 1; expected a list"),
        (condition("in", "abc", "kind"), "filters.value is 'abc'; expected a list"),
        (condition("in", [1, "x"]), "filters.value is 'x'; expected an integer"),
        (condition("==", "\ud800", "kind"), "filters.value is .*valid Unicode"),
        (condition("==", float("nan"), "price"), "filters.value is nan; expected a finite number"),
        (condition(">", 10**400, "price"), "expected a finite number"),
        (condition("==", 1, "open"), "expected true or false"),
        (condition(">", "yesterday", "seen"), "filters.value is 'yesterday'; expected an ISO 8601"),
        (condition("<", "0001-01-01T00:00:00+14:00", "seen"), "expected an ISO 8601"),
        (condition(">", "a", "kind"), "filters.operator is '>' on field 'kind', which is str"),
        (
            condition("contains", "x"),
            "filters.operator is 'contains' on field 'year', which is int; expected one of: ==",
        ),
        (condition("contains_any", "x", "tags"), "filters.value is 'x'; expected a list"),
        (condition("contains_all", [1], "tags"), r"filters.value is \[1\]; expected a list of strings"),
        (condition("contains", ["x"], "tags"), r"filters.value is \['x'\]; expected a string of valid Unicode"),
        (
            condition("==", ["x"], "tags"),
            r"filters.value is \['x'\] on field 'tags', .* expected null, or one of: cont",
        ),
        (condition("in", ["x"], "tags"), "filters.operator is 'in' on field 'tags', which is list"),
        (condition("starts_with", 1, "kind"), "filters.value is 1; expected a string"),
        (condition("<=", True, "open"), "filters.operator is '<=' on field 'open', which is bool"),
    ],
)
def test_a_bad_filter_is_refused_by_place_and_value(every, wanted, words) -> None:
    follower, _ = every
    with pytest.raises(InvalidFilterError, match=words):
        follower.snapshot.filtered(wanted)


@pytest.mark.parametrize("operator", ["AND", "OR", "NOT"])
def test_a_filter_at_every_limit_is_evaluated(every, operator) -> None:
    follower, rows = every
    wanted = nested(MAX_DEPTH, operator)
    for _ in range(2):
        assert follower.snapshot.filtered(wanted).count() == sum(matches(wanted, row) for row in rows.values())
        conditions = [condition("!=", i) for i in range(MAX_CONDITIONS - 1)]
        wanted = {"operator": operator, "conditions": conditions}
    wanted = condition("not in", [*range(MAX_VALUES - 1), None])
    assert follower.snapshot.filtered(wanted).count() == sum(matches(wanted, row) for row in rows.values())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"year": "2020"}, "metadata field 'year' of document 'x' is '2020'; expected an integer.*as the field is int"),
        ({"year": True}, "'year' of document 'x' is True"),
        ({"year": 2020.0}, "'year' of document 'x' is 2020.0"),
        ({"year": 2**63}, "'year' of document 'x' is 9223372036854775808"),
        ({"year": [2020]}, r"'year' of document 'x' is \[2020\]"),
        ({"price": "1.5"}, "'price' of document 'x' is '1.5'; expected a finite number"),
        ({"price": float("inf")}, "'price' of document 'x' is inf"),
        ({"open": 1}, "'open' of document 'x' is 1; expected true or false"),
        ({"seen": "12 May"}, "'seen' of document 'x' is '12 May'; expected an ISO 8601"),
        ({"seen": 1589241600}, "'seen' of document 'x' is 1589241600"),
        ({"tags": "x"}, "'tags' of document 'x' is 'x'; expected a list of strings"),
        ({"tags": ["x", 1]}, r"'tags' of document 'x' is \['x', 1\]"),
        ({"kind": 7}, "'kind' of document 'x' is 7; expected a string"),
    ],
)
def test_mistyped_metadata_is_refused_and_nothing_is_written(tmp_path: Path, row, words) -> None:
    collection = collection_of(tmp_path, {"kept": {"year": 1, "undeclared": object.__name__}})
    version = collection.version
    documents = [Document("good", "", {}), Document("x", "", row)]
    for write in (lambda: collection.check_metadata(documents), lambda: collection.upsert(documents, [ONE, ONE])):
        with pytest.raises(InvalidDocumentError, match=words):
            write()
    assert collection.version == version and collection.count() == 1


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ([], r"fields is \[\]; expected an object"),
        ({f"f{i}": "int" for i in range(65)}, "at most 64 fields"),
        ({"": "int"}, "fields declares ''"),
        ({"meta.year": "int"}, "fields declares 'meta.year'"),
        ({"x" * 129: "int"}, "fields declares 'xxx"),
        ({"\ud800": "int"}, "fields declares"),
        ({"year": "integer"}, r"fields\['year'\] is 'integer'; expected one of: str, int, float, bool, datetime, list"),
        ({"kind": "str", "year": ["int"]}, r"fields\['year'\] is \['int'\]"),
    ],
)
def test_a_bad_declaration_is_refused(declaration, words) -> None:
    with pytest.raises(InvalidFieldError, match=words):
        declared_fields(declaration)


def test_a_filtered_snapshot_keeps_its_version_and_forgets_old_filters(tmp_path: Path) -> None:
    collection = collection_of(tmp_path, {"a": {"year": 1}, "b": {"year": 2}, "c": {}})
    follower = Follower(Store(tmp_path), "c", CPU)
    old = follower.snapshot.filtered(condition("==", 1))
    collection.upsert([Document("b", "", {"year": 1})], [ONE])
    collection.delete(["a"])
    new = follower.refresh().filtered(condition("==", 1))
    assert [segment.ids[int(row)].as_py() for segment in old.segments for row in np.flatnonzero(segment.live)] == ["a"]
    assert [segment.ids[int(row)].as_py() for segment in new.segments for row in np.flatnonzero(segment.live)] == ["b"]
    for year in range(40):
        follower.snapshot.filtered(condition("==", year))
    assert follower.snapshot.filtered(condition("==", 1)) is not new
