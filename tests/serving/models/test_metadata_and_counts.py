"""What writes count, fields that follow from metadata, and what is read of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from service_requests import answers, delete, strings

from tridex.index import Store
from tridex.serving.backend.service import Arrays, Context, ErrorCode, Request, RequestError
from tridex.serving.models.catalog import CatalogService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService

NO_IDS = strings().reshape(1, 0)


@pytest.fixture
def ingest(context: Context) -> Iterator[IngestService]:
    service = IngestService(context)
    yield service
    service.close()


def upsert(rows: dict[str, dict[str, Any]], **parameters: Any) -> Request:
    inputs = {"ID": strings(*rows), "TEXT": strings(*(f"text of {key}" for key in rows))}
    inputs["METADATA"] = strings(*map(json.dumps, rows.values()))
    return Request(inputs, {"collection": "c", "operation": "upsert", **parameters})


def operation(name: str, inputs: Arrays | None = None, **parameters: Any) -> Request:
    return Request({"ID": NO_IDS, **(inputs or {})}, {"collection": "c", "operation": name, **parameters})


def counts(result: Any) -> tuple[list[int], ...]:
    assert not isinstance(result, RequestError), result
    return tuple(result[name][:, 0].tolist() for name in ("ADDED", "REPLACED", "DELETED"))


def refusal(result: Any, code: ErrorCode) -> str:
    assert isinstance(result, RequestError) and result.code is code, result
    return str(result)


def catalog(context: Context, name: str, *ids: str, **parameters: Any) -> Any:
    inputs = {"IDS": strings(*ids).reshape(1, -1)}
    (result,) = CatalogService(context).answer([Request(inputs, {"collection": "c", "operation": name, **parameters})])
    return result


def rows(result: Any) -> list[Any]:
    assert not isinstance(result, RequestError), result
    return [json.loads(row) for row in result["ROWS"][0] if row]


def test_writes_of_one_transaction_count_as_if_one_came_after_the_other(
    context: Context, ingest: IngestService
) -> None:
    (first,) = answers(ingest, [upsert({"a": {}, "b": {}})])
    assert counts(first) == ([1, 1], [0, 0], [0, 0])
    together = answers(
        ingest,
        [
            upsert({"b": {}, "c": {}}),
            upsert({"c": {"n": 1}, "d": {}}, if_exists="skip"),
            upsert({"e": {}, "d": {}}, if_exists="fail"),
            upsert({"e": {}}, if_exists="fail"),
        ],
    )
    assert counts(together[0]) == ([0, 1], [1, 0], [0, 0])
    assert counts(together[1]) == ([0, 1], [0, 0], [0, 0])
    refused = refusal(together[2], ErrorCode.ALREADY_EXISTS)
    assert "document 'd' is in collection 'c' already; expected new ids, as parameter if_exists is fail" in refused
    assert counts(together[3]) == ([1], [0], [0])
    assert rows(catalog(context, "get", "c"))[0]["metadata"] == {}, "the skipped one is not written"

    deleted = answers(ingest, [delete("c", "a", "gone"), delete("c", "a", "b")])
    assert [counts(one)[2] for one in deleted] == [[1, 0], [0, 1]]
    (cleared,) = answers(ingest, [operation("clear")])
    assert counts(cleared)[2] == [3] and Store(context.store).open("c").count() == 0


def test_what_is_skipped_is_not_encoded(context: Context, ingest: IngestService) -> None:
    answers(ingest, [upsert({"a": {}, "b": {}})])
    shapes = context.infer.shapes  # type: ignore[attr-defined]
    before = len(shapes)
    (skipped,) = answers(ingest, [upsert({"a": {"n": 1}, "b": {"n": "x"}}, if_exists="skip")])
    assert counts(skipped) == ([0, 0], [0, 0], [0, 0]) and len(shapes) == before
    refusal(answers(ingest, [upsert({"a": {}}, if_exists="fail")])[0], ErrorCode.ALREADY_EXISTS)
    assert len(shapes) == before


def test_a_collection_gets_its_fields_from_its_first_documents(context: Context, ingest: IngestService) -> None:
    good, bad = answers(ingest, [upsert({"a": {"n": 1, "tags": ["x"]}}), upsert({"b": {"n": "one"}})])
    assert counts(good)[0] == [1]
    assert "metadata field 'n' of document 'b' is 'one'; expected an integer" in refusal(
        bad, ErrorCode.INVALID_ARGUMENT
    )
    (described,) = rows(catalog(context, "collection"))
    assert described["fields"] == {"n": "int", "tags": "list[str]"} and described["infers_fields"] is True
    answers(ingest, [upsert({"b": {"n": 2.5, "seen": "2024-05-01"}})])
    (described,) = rows(catalog(context, "collection"))
    assert described["fields"] == {"n": "float", "tags": "list[str]", "seen": "datetime"}
    assert rows(catalog(context, "count", filters='{"field": "n", "operator": "<", "value": 2}'))[0]["count"] == 1


def test_documents_that_do_not_agree_make_no_collection(context: Context, ingest: IngestService) -> None:
    (refused,) = answers(ingest, [upsert({"a": {"n": 1}, "b": {"n": "one"}})])
    refusal(refused, ErrorCode.INVALID_ARGUMENT)
    assert Store(context.store).names() == []


def test_fields_and_metadata_change_without_encoding(context: Context, ingest: IngestService) -> None:
    answers(ingest, [operation("create", fields="{}"), upsert({"a": {"n": 1}, "b": {"n": 2, "k": "x"}})])
    shapes = context.infer.shapes  # type: ignore[attr-defined]
    before = len(shapes)
    refused = catalog(context, "facet", field="n")
    assert "field is 'n'; expected a field of the collection: none" in refusal(refused, ErrorCode.INVALID_ARGUMENT)
    (changed,) = answers(ingest, [operation("change_fields", fields='{"n": "int", "k": "str"}')])
    assert not isinstance(changed, RequestError)
    assert rows(catalog(context, "facet", field="n", limit=1)) == [{"value": 1, "count": 1}]
    assert rows(catalog(context, "min_max", field="n")) == [[1, 2]]
    by_ids = Request(
        {"ID": strings("a", "gone"), "METADATA": strings('{"n": 7}', "{}")},
        {"collection": "c", "operation": "update_metadata"},
    )
    matching = operation(
        "update_metadata",
        {"METADATA": strings('{"k": null}')},
        filters='{"field": "k", "operator": "starts_with", "value": "x"}',
    )
    assert [counts(one)[1] for one in answers(ingest, [by_ids, matching])] == [[1], [1]]
    assert [row["metadata"] for row in rows(catalog(context, "get", "a", "b"))] == [{"n": 7}, {"n": 2}]
    bad = operation("change_fields", fields='{"n": "str"}')
    assert "field 'n' of document" in refusal(answers(ingest, [bad])[0], ErrorCode.INVALID_ARGUMENT)
    assert len(shapes) == before


def test_stored_embeddings_come_with_the_documents(context: Context, ingest: IngestService) -> None:
    answers(ingest, [upsert({"a": {}, "longer than the other": {}})])
    found = catalog(context, "get", "longer than the other", "gone", "a", with_embeddings=True)
    first, gone, last = rows(found)
    assert gone is None and found["EMBEDDINGS"].shape[1] == first["tokens"] + last["tokens"]
    np.testing.assert_allclose(np.linalg.norm(found["EMBEDDINGS"][0], axis=1), 1, atol=1e-3)
    nothing = catalog(context, "get", "gone", with_embeddings=True)
    assert rows(nothing) == [None] and nothing["EMBEDDINGS"].shape[1] == 1


@pytest.fixture
def search(context: Context, ingest: IngestService) -> Iterator[SearchService]:
    answers(ingest, [upsert({f"d{i}": {"n": i} for i in range(6)})])
    service = SearchService(context)
    yield service
    service.close()


def test_offset_min_score_and_normalised_scores(search: SearchService) -> None:
    def found(**parameters: Any) -> Any:
        request = Request({"QUERY": strings("text of d3")}, {"collection": "c", "with_text": False, **parameters})
        (result,) = answers(search, [request])
        return result

    every = found()
    scores, ids = every["SCORES"][0], every["IDS"][0]
    page = found(offset=2, top_k=3)
    assert page["IDS"][0].tolist() == ids[2:5].tolist() and page["SCORES"][0].tolist() == scores[2:5].tolist()
    assert found(offset=6)["IDS"].tolist() == [[b""]]
    cut = found(min_score=repr(float(scores[3])))
    assert cut["IDS"][0].tolist() == ids[scores >= scores[3]].tolist()
    normalised = found(normalize=True)["SCORES"][0]
    assert ((normalised >= 0) & (normalised <= 1)).all()
    np.testing.assert_array_equal(normalised, scores.clip(0, 1))  # the checkpoint's own similarity is the mean already
    for mode, best in (("hybrid", 1.0), ("rerank", None)):
        fused = found(mode=mode, normalize=True)["SCORES"][0]
        assert ((fused >= 0) & (fused <= 1)).all() and (best is None or fused[0] <= best)
    refused = refusal(found(mode="bm25", normalize=True), ErrorCode.INVALID_ARGUMENT)
    assert "parameter normalize is true in a search of mode bm25, whose scores have no largest one" in refused
    for bad, expected in (
        ({"offset": -1}, "parameter offset is -1; expected an integer from 0 to 9990"),
        ({"min_score": "nan"}, "parameter min_score is 'nan'; expected a finite number, as a string"),
        ({"min_score": 1.5}, "parameter min_score is 1.5; expected a finite number, as a string"),
        ({"normalize": 1}, "parameter normalize is 1; expected true or false"),
    ):
        assert expected in refusal(found(**bad), ErrorCode.INVALID_ARGUMENT)
