"""Ingest, search, rerank and catalog together: what one writes, the others read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queries import embed_query
from sentence_transformers import MultiVectorEncoder
from service_requests import answers, delete, strings, upsert

from tridex.index import CollectionSpec, Store
from tridex.kernels import Codec
from tridex.protocol import limits
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError
from tridex.serving.models.catalog import CatalogService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService

TEXTS = {
    "seine": "the capital of France is Paris, on the river Seine",
    "rmtree": "remove a directory and everything in it: shutil.rmtree(path)",
    "custard": "a custard base with a layer of caramelised sugar",
}


@pytest.fixture
def ingest(context: Context) -> IngestService:
    return IngestService(context)


@pytest.fixture
def search(context: Context) -> Iterator[SearchService]:
    service = SearchService(context)
    yield service
    service.close()


def version(result: Any) -> int:
    assert not isinstance(result, RequestError), result
    return int(result["VERSION"][0, 0])


def query(context: Context, text: str, collection: str = "c", **parameters: Any) -> Request:
    embeddings = embed_query(load(context), text)
    return Request({"QUERY_EMBEDDINGS": embeddings[None]}, {"collection": collection, **parameters})


def load(context: Context) -> Any:
    from tridex.encoding import latest_version_dir, load_artifact

    return load_artifact(latest_version_dir(context.repository / "encoder"))


def catalog(context: Context, operation: str, *ids: str, collection: str = "c") -> list[Any]:
    inputs = {"IDS": strings(*ids).reshape(1, -1)}
    (result,) = CatalogService(context).answer([Request(inputs, {"operation": operation, "collection": collection})])
    assert not isinstance(result, RequestError), result
    return [json.loads(row) for row in result["ROWS"][0]]


def test_what_is_ingested_is_found(context: Context, ingest: IngestService, search: SearchService) -> None:
    (written,) = answers(ingest, [upsert("c", TEXTS)])
    (found,) = answers(search, [query(context, TEXTS["rmtree"], min_version=version(written))])
    assert not isinstance(found, RequestError)
    assert found["IDS"][0, 0] == b"rmtree" and found["TEXTS"][0, 0].decode() == TEXTS["rmtree"]
    assert found["SCORES"].dtype == np.float32 and (np.diff(found["SCORES"][0]) <= 0).all()


def test_scores_are_the_source_librarys(
    context: Context, ingest: IngestService, search: SearchService, checkpoint: Path
) -> None:
    (written,) = answers(ingest, [upsert("c", TEXTS, codec="float32")])
    (found,) = answers(search, [query(context, "where is Paris?", min_version=version(written))])
    assert not isinstance(found, RequestError)
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    expected = model.similarity([model.encode_query("where is Paris?")], model.encode_document(list(TEXTS.values())))
    scores = dict(zip([key.decode() for key in found["IDS"][0]], found["SCORES"][0].tolist(), strict=True))
    assert [scores[key] for key in TEXTS] == pytest.approx(expected[0].tolist(), abs=1e-4)


def test_a_batch_keeps_the_order_of_writes_and_shares_transactions(context: Context, ingest: IngestService) -> None:
    answers(ingest, [upsert("c", {"old": "an old text"})])
    results = answers(
        ingest,
        [
            upsert("c", {"a": "first"}),
            upsert("c", {"a": "second", "b": "kept"}),
            delete("c", "a"),
            upsert("other", {"a": "elsewhere"}),
            delete("c", "nothing"),
            upsert("c", {"a": "third"}),
        ],
    )
    versions = [version(result) for result in results]
    assert versions[0] == versions[1] < versions[2] < versions[4] < versions[5]
    documents = catalog(context, "get", "a", "b", "old", "nothing")
    assert [document and document["text"] for document in documents] == ["third", "kept", "an old text", None]


def test_a_bad_write_fails_alone(context: Context, ingest: IngestService) -> None:
    good, bad, also_good = answers(
        ingest, [upsert("c", {"a": "one"}), upsert("c", {"b": "  "}), upsert("c", {"d": "three"})]
    )
    assert isinstance(bad, RequestError) and bad.code is ErrorCode.INVALID_ARGUMENT and "TEXT" in str(bad)
    assert version(good) == version(also_good)
    assert [bool(document) for document in catalog(context, "get", "a", "b", "d")] == [True, False, True]


def test_a_search_sees_only_versions_there_are(context: Context, ingest: IngestService, search: SearchService) -> None:
    (written,) = answers(ingest, [upsert("c", TEXTS)])
    far = version(written) + 5
    good, early = answers(
        search, [query(context, "sugar", min_version=version(written)), query(context, "sugar", min_version=far)]
    )
    assert isinstance(early, RequestError) and f"min_version is {far}" in str(early)
    assert version(good) == version(written)


def test_an_alias_does_not_lead_into_the_past(
    context: Context, ingest: IngestService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tridex.serving.collections.loaded_collections._POLL_S", 3600)
    answers(ingest, [upsert("new", {"a": "the first half"})])
    search = SearchService(context)
    answers(ingest, [upsert("new", {"b": "the second half"})])
    flip = {"collection": "new", "operation": "set_alias", "alias": "live"}
    answers(ingest, [Request({"ID": strings().reshape(1, 0)}, flip)])
    # No snapshot has been refreshed since the first half.
    stale, found = answers(search, [query(context, "half", "new"), query(context, "half", "live")])
    search.close()
    assert not isinstance(stale, RequestError) and not isinstance(found, RequestError)
    assert set(found["IDS"][0]) == {b"a", b"b"}


def test_queries_of_one_batch_are_scored_as_alone(
    context: Context, ingest: IngestService, search: SearchService
) -> None:
    written = [version(v) for v in answers(ingest, [upsert("c", TEXTS), upsert("other", {"x": "another collection"})])]
    long = "a much longer question about the capital on the river, and its directories"
    requests = [
        query(context, "sugar", top_k=2, min_version=written[0]),
        query(context, long, top_k=1, min_version=written[0]),
        query(context, "x", "other", with_text=False, min_version=written[1]),
        query(context, "gone", "gone"),
        Request({**query(context, "Paris").inputs, "CANDIDATE_IDS": strings("custard", "seine", "no").reshape(1, -1)},
                {"collection": "c", "with_metadata": False, "min_version": written[0]}),
    ]  # fmt: skip
    together = answers(search, requests)
    for request, result in zip(requests, together, strict=True):
        (alone,) = answers(search, [request])
        if isinstance(result, RequestError):
            assert isinstance(alone, RequestError) and str(alone) == str(result) and result.code is ErrorCode.NOT_FOUND
            continue
        assert not isinstance(alone, RequestError)
        assert result.keys() == alone.keys()
        for name, array in alone.items():
            np.testing.assert_array_equal(array, result[name])
    assert [len(result["IDS"][0]) for result in together if not isinstance(result, RequestError)] == [2, 1, 1, 2]
    assert "TEXTS" not in together[2] and "METADATA" in together[2]  # type: ignore[operator]


def test_an_index_of_another_checkpoint_is_refused(
    context: Context, ingest: IngestService, search: SearchService
) -> None:
    manifest = load(context).manifest
    parts = {**manifest.component_hashes, "weights": "b" * 64}
    Store(context.store).create("c", CollectionSpec(manifest.dim, Codec.FLOAT16, "a" * 64, checkpoint=parts))
    for result in (*answers(ingest, [upsert("c", TEXTS)]), *answers(search, [query(context, "Paris")])):
        assert isinstance(result, RequestError) and result.code is ErrorCode.INVALID_ARGUMENT
        assert "aaaaaaaaaaaa (weights bbbbbbbbbbbb, tokenizer" in str(result) and "another in weights:" in str(result)
        assert f"{manifest.fingerprint[:12]} (weights {manifest.component_hashes['weights'][:12]}, tokenizer" in str(
            result
        )


def test_long_ingests_reach_the_encoder_in_small_calls(context: Context, ingest: IngestService) -> None:
    rng = np.random.default_rng(0)
    words = " ".join(TEXTS.values()).split()
    documents = {str(i): " ".join(rng.choice(words, rng.integers(1, 60))) for i in range(limits.MAX_BATCH)}
    answers(ingest, [upsert("c", documents)])
    shapes = context.infer.shapes  # type: ignore[attr-defined]
    assert sum(texts for texts, _ in shapes) >= len(documents)
    assert len(shapes) > 1 and all(texts * tokens <= 1024 for texts, tokens in shapes)


def test_rerank_scores_as_the_source_library(search: SearchService, checkpoint: Path) -> None:
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    texts = [*TEXTS.values(), "short", " ".join(TEXTS.values()) * 3]
    expected = model.similarity([model.encode_query("where is Paris?")], model.encode_document(texts))
    inputs = {"QUERY_TO_RERANK": strings("where is Paris?"), "DOCUMENTS": strings(*texts).reshape(1, -1)}
    (result,) = answers(search, [Request(inputs)])
    assert not isinstance(result, RequestError)
    np.testing.assert_allclose(result["SCORES"], expected.numpy(), atol=1e-4)


def test_the_catalog_describes_what_is_there(context: Context, ingest: IngestService, checkpoint: Path) -> None:
    (written,) = answers(ingest, [upsert("c", TEXTS, codec="bfloat16")])
    manifest = load(context).manifest
    encoded = MultiVectorEncoder(str(checkpoint), device="cpu").encode_document(list(TEXTS.values()))
    (found,) = catalog(context, "collections")
    # Embeddings of two bytes a number; beside them offsets, ids and the live bitmap, and room to copy.
    assert found["budget_bytes"] > found.pop("device_bytes") > sum(map(len, encoded)) * manifest.dim * 2
    del found["budget_bytes"]
    assert [found] == [
        {
            "name": "c",
            "count": 3,
            "version": version(written),
            "codec": "bfloat16",
            "dim": manifest.dim,
            "fingerprint": manifest.fingerprint,
            "checkpoint": manifest.component_hashes,
            "fields": {},
            "infers_fields": True,
            "document_length": manifest.rules.document.length,
            "long_documents": "windows",
            "pooling_factor": 1,
            "codebook": None,
            "tokens": sum(map(len, encoded)),
        }
    ]
    assert catalog(context, "count") == [{"count": 3, "version": version(written)}]
    assert catalog(context, "encoder")[0]["fingerprint"] == manifest.fingerprint
