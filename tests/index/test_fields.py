"""Fields that come after the documents: inferred, added, retyped and dropped; no row moves, nothing is encoded."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tridex.common.fields import MAX_FIELDS
from tridex.index import (
    Collection,
    CollectionSpec,
    Document,
    DocumentInference,
    FieldType,
    Follower,
    InvalidDocumentError,
    InvalidFieldError,
    InvalidFilterError,
    Store,
    declared_fields,
)
from tridex.index.storage import field_changes
from tridex.kernels import Codec

SPEC = CollectionSpec(4, Codec.FLOAT32, "f" * 64)
INFERRING = CollectionSpec(4, Codec.FLOAT32, "f" * 64, infers_fields=True)
ONE = np.ones((1, 4), np.float32)
ROWS: dict[str, dict[str, Any]] = {
    "a": {"year": 2019, "tags": ["x", "it's"], "kind": "paper", "nested": {"n": 1}},
    "b": {"year": 2020, "tags": [], "kind": "poster"},
    "c": {"tags": ["x", "y"], "kind": None},
    "d": {},
}


def filled(store: Store, spec: CollectionSpec = SPEC, rows: dict[str, dict[str, Any]] = ROWS) -> Collection:
    collection = store.create("c", spec)
    for key, row in rows.items():
        collection.upsert([Document(key, f"text of {key}", row)], [ONE])
    return collection.latest()


def ids(collection: Collection, field: str, operator: str, value: Any) -> str:
    wanted = {"field": field, "operator": operator, "value": value}
    return "".join(document.id for document in collection.scroll(100, filters=wanted))


def test_fields_are_added_to_stored_documents_and_nothing_is_loaded_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = filled(store)
    collection.delete(["d"])
    follower = Follower(store, "c", torch.device("cpu"))
    segments = follower.snapshot.segments
    with pytest.raises(InvalidFilterError, match=r"'year'; expected a field of the collection: none. .* add_fields"):
        follower.snapshot.filtered({"field": "year", "operator": "==", "value": 2019})

    collection = collection.change_fields(declared_fields({"year": "int", "tags": "list[str]", "kind": "str"}))
    assert collection.spec.fields == {"year": FieldType.INT, "tags": FieldType.STRINGS, "kind": FieldType.STR}
    snapshot = follower.refresh()
    assert all(now.packed is before.packed for now, before in zip(snapshot.segments, segments, strict=True))
    assert snapshot.filtered({"field": "tags", "operator": "contains", "value": "x"}).count() == 2

    assert ids(collection, "year", ">=", 2020) == "b" and ids(collection, "year", "==", None) == "c"
    assert ids(collection, "tags", "contains", "it's") == "a"
    assert ids(collection, "tags", "contains_any", ["it's", "y", "z"]) == "ac"
    assert (
        ids(collection, "tags", "contains_all", ["x", "y"]) == "c" and ids(collection, "tags", "contains_any", []) == ""
    )
    assert ids(collection, "tags", "contains_all", []) == "abc" and ids(collection, "tags", "!=", None) == "abc"
    assert ids(collection, "kind", "starts_with", "p") == "ab" and ids(collection, "kind", "contains", "ost") == "b"
    assert ids(collection, "kind", "contains", "%") == ""

    collection.upsert([Document("e", "text", {"year": 2021, "tags": ["new"]})], [ONE])
    assert ids(collection, "tags", "contains", "new") == "e"
    collection.compact()
    assert ids(collection.latest(), "year", ">", 2019) == "be"


def test_a_field_gets_another_type_or_goes(tmp_path: Path) -> None:
    collection = filled(Store(tmp_path)).change_fields(declared_fields({"year": "int", "kind": "str"}))
    version = collection.version
    with pytest.raises(InvalidFieldError, match="field 'year' of document 'a' is 2019; expected a string"):
        collection.change_fields({"year": FieldType.STR})
    with pytest.raises(InvalidFieldError, match="'month'; expected a field of the collection: year, kind"):
        collection.change_fields({"month": None})
    assert collection.latest_version() == version
    collection = collection.change_fields({"year": FieldType.FLOAT})
    collection.upsert([Document("e", "text", {"year": 2020.5})], [ONE])
    assert ids(collection, "year", ">", 2019.5) == "be"
    collection = collection.change_fields({"year": None})
    collection.upsert([Document("f", "text", {"year": "unknown", "kind": "k"})], [ONE])
    assert ids(collection, "kind", "==", "k") == "f" and [*collection.spec.fields] == ["kind"]
    with pytest.raises(InvalidFieldError, match="fields would be 65"):
        collection.change_fields({f"f{i}": FieldType.STR for i in range(MAX_FIELDS)})


def test_a_process_killed_while_it_adds_fields_leaves_a_collection_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(Store(tmp_path))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(field_changes, "written", killed)
        with pytest.raises(KeyboardInterrupt):
            collection.change_fields(declared_fields({"year": "int"}))
    collection = Store(tmp_path).open("c")
    assert collection.spec.fields == {} and "field_0" in collection.dataset.schema.names
    collection.upsert([Document("e", "text", {"year": "any"})], [ONE])
    assert collection.count() == 5
    collection = collection.change_fields(declared_fields({"kind": "str"}))
    assert ids(collection, "kind", "==", "paper") == "a"
    assert [name for name in collection.dataset.schema.names if name.startswith("field_")] == ["field_1"]


def test_the_text_index_is_extended_while_fields_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = filled(Store(tmp_path))
    monkeypatch.setattr("tridex.index.storage.text_index._MIN_NEW_DOCUMENTS", 1)
    other = Store(tmp_path).open("c")
    read, extended = field_changes.column_values, []

    def meanwhile(*given: Any) -> Any:
        if not extended:
            thread = threading.Thread(target=lambda: extended.append(other.index_new_texts()))
            thread.start()
            thread.join()
        return read(*given)

    monkeypatch.setattr(field_changes, "column_values", meanwhile)
    collection = collection.change_fields(declared_fields({"year": "int"}))
    assert extended == [True] and ids(collection, "year", ">", 0) == "ab"
    assert sorted(collection.search_texts("text", 9).ids) == [*"abcd"]


@pytest.mark.parametrize("written", ["store-0.1", "before-0.1/format-3", "before-0.1/format-2"])
def test_fields_are_added_to_a_store_of_an_older_version(tmp_path: Path, written: str) -> None:
    folder = Path(__file__).parents[1] / "data" / written
    expected = json.loads((folder / "expected.json").read_text())["collections"]
    store = Store(shutil.copytree(folder / "store", tmp_path / "store"))
    name = next(name for name in expected if expected[name]["spec"]["fields"])
    collection = store.open(name)
    before = dict(collection.spec.fields)
    collection = collection.change_fields({"added": FieldType.STR})
    assert collection.spec.fields == {**before, "added": FieldType.STR} and collection.spec.format == 5
    assert collection.count() == expected[name]["count"]
    for filters in ({"field": field, "operator": "==", "value": None} for field in before):
        assert collection.count(filters) == store.open(name).count(filters)


METADATA = st.dictionaries(
    st.sampled_from("abc"), st.sampled_from([None, 1, 2.5, "x", "2020-01-01", True, ["x"], [], {"k": 1}, [1]])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(METADATA, max_size=6))
def test_what_is_inferred_fits_every_document(rows: list[dict[str, Any]]) -> None:
    inference = DocumentInference()
    taken = []
    for i, row in enumerate(rows):
        before = inference.fields
        try:
            inference.add_all([Document(str(i), "", row)])
        except InvalidDocumentError:
            assert inference.fields == before
        else:
            taken.append(row)
    for row in taken:
        for name, kind in inference.fields.items():
            if row.get(name) is not None:
                kind.parse(row[name])


def test_fields_are_inferred_from_the_first_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = filled(Store(tmp_path), INFERRING, {"a": {"n": 1, "when": "2020-01-01", "odd": {}}})

    def add(key: str, **row: Any) -> None:
        nonlocal collection
        documents = [Document(key, "", row)]
        collection = collection.change_fields(collection.inferred_fields(documents))
        collection.upsert(documents, [ONE])

    add("b", n=2.5, when="soon", tags=["x"], odd=1, zip="0123", none=None)
    kinds = {name: kind.value for name, kind in collection.spec.fields.items()}
    assert kinds == {"n": "float", "when": "str", "tags": "list[str]", "zip": "str"}
    assert ids(collection, "n", ">", 0) == "ab" and ids(collection, "when", "==", "2020-01-01") == "a"
    with pytest.raises(InvalidDocumentError, match="field 'n' of document 'c' is 'many'; expected a finite number"):
        collection.inferred_fields([Document("c", "", {"n": "many"})])
    monkeypatch.setattr("tridex.index.storage.collection.INFERRED_DOCUMENTS", 2)
    assert collection.inferred_fields([Document("c", "", {"late": 1})]) == collection.spec.fields


def test_metadata_is_updated_and_codes_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = filled(store, CollectionSpec(4, Codec.FLOAT32, "f" * 64, declared_fields({"year": "int"})))
    follower = Follower(store, "c", torch.device("cpu"))
    assert collection.update_metadata({"a": {"year": 2000, "nested": None}, "gone": {"year": 1}}) == 1
    (document,) = collection.get(["a"])
    assert document == Document("a", "text of a", {"year": 2000, "tags": ["x", "it's"], "kind": "paper"})
    assert ids(collection, "year", "==", 2000) == "a"
    assert collection.update_metadata_matching({"field": "year", "operator": "!=", "value": None}, {"year": 7}) == 2
    assert follower.refresh().filtered({"field": "year", "operator": "==", "value": 7}).count() == 2
    version = collection.version
    with pytest.raises(InvalidDocumentError, match="'year' of document 'a' is 'x'"):
        collection.update_metadata({"b": {"year": 3}, "a": {"year": "x"}})
    with pytest.raises(InvalidDocumentError, match=r"'a' would have 1[0-9]+ bytes; expected at most 99"):
        collection.update_metadata({"a": {"long": "x" * 99}}, 99)
    assert collection.update_metadata({"gone": {}}) == 0 and collection.latest_version() == version
    assert follower.refresh().count() == collection.count() == 4
    assert sorted(follower.snapshot.search_texts("text", 9).ids) == [*"abcd"]
    assert lance.dataset(str(collection.folder)).schema.metadata == collection.dataset.schema.metadata


def test_an_update_brings_fields_where_they_are_inferred(tmp_path: Path) -> None:
    spec = CollectionSpec(4, Codec.FLOAT32, "f" * 64, {}, infers_fields=True)
    collection = filled(Store(tmp_path), spec)
    assert collection.update_metadata({"a": {"reviewed": True}}) == 1
    assert collection.latest().spec.fields["reviewed"] is FieldType.BOOL
    assert ids(collection.latest(), "reviewed", "==", True) == "a"
    with pytest.raises(InvalidDocumentError, match="'reviewed' of document 'b' is 'yes'"):
        collection.update_metadata_matching({"field": "reviewed", "operator": "!=", "value": True}, {"reviewed": "yes"})


def test_facets_and_bounds(tmp_path: Path) -> None:
    def facet(*given: Any, **options: Any) -> list[tuple[Any, int]]:
        return [(found.value, found.count) for found in collection.facet(*given, **options)]

    fields = declared_fields({"year": "int", "tags": "list[str]", "kind": "str", "seen": "datetime"})
    rows = {**ROWS, "e": {"kind": "poster", "tags": ["y", "y"], "seen": "2020-02-29"}}
    collection = filled(Store(tmp_path), CollectionSpec(4, Codec.FLOAT32, "f" * 64, fields), rows)
    assert facet("kind") == [("poster", 2), ("paper", 1)] and facet("kind", limit=1) == [("poster", 2)]
    assert facet("meta.tags") == [("x", 2), ("y", 2), ("it's", 1)]
    assert facet("seen") == [("2020-02-29T00:00:00+00:00", 1)]
    assert facet("tags", {"field": "year", "operator": "==", "value": 2019}) == [("it's", 1), ("x", 1)]
    assert collection.min_max("year") == (2019, 2020)
    assert collection.min_max("seen") == ("2020-02-29T00:00:00+00:00",) * 2
    assert collection.min_max("year", {"field": "kind", "operator": "==", "value": None}) is None
    with pytest.raises(InvalidFieldError, match="'kind' is str; expected one that is int, float or datetime"):
        collection.min_max("kind")
    with pytest.raises(InvalidFieldError, match="field is 'month'; expected a field of the collection: year, tags"):
        collection.facet("month")


def test_stored_embeddings_are_those_that_were_written(tmp_path: Path) -> None:
    collection = Store(tmp_path).create("c", SPEC)
    arrays = {"a": np.eye(4, dtype=np.float32)[:3], "b": ONE}
    collection.upsert([Document(key, "", {}) for key in arrays], list(arrays.values()))
    found = collection.get_embeddings(["b", "gone", "a"])
    assert {key: array.tolist() for key, array in found.items()} == {key: a.tolist() for key, a in arrays.items()}
    assert collection.existing(["a", "gone"]) == {"a"}
    collection.clear()
    assert collection.count() == 0
