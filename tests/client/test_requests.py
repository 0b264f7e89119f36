"""What each method puts on the wire, and what it makes of the answer."""

from __future__ import annotations

import inspect
import json
from datetime import datetime

import numpy as np
import pytest

from tridex.client import (
    AsyncClient,
    Client,
    CollectionInfo,
    DeleteResult,
    Document,
    DocumentToken,
    FacetValue,
    Hit,
    RerankResult,
    Span,
    Token,
    UpdateResult,
    UpsertResult,
)

HITS = {
    "IDS": [["a", "ü"]],
    "SCORES": np.array([[2.5, 1.25]], np.float32),
    "TEXTS": [["first", "zweitens: größer"]],
    "METADATA": [['{"year": 1999}', "{}"]],
    "VERSION": np.array([[7]]),
}


def asked(request):
    """The part of HITS that a request asks for."""
    return {name: HITS[name] for name in request.outputs}


def column(request, name):
    """The rows of a [rows, 1] string tensor."""
    assert request.inputs[name].shape[1:] == (1,)
    return [row[0].decode() for row in request.inputs[name]]


async def test_search_by_text(client, triton):
    triton.answer = asked
    result = await client.search("docs", "größer als?", top_k=2)
    (request,) = triton.requests
    assert request.model == "search"
    assert request.parameters == {"collection": "docs", "top_k": 2, "with_text": True, "with_metadata": True}
    assert column(request, "QUERY") == ["größer als?"]
    assert list(request.inputs) == ["QUERY"]
    assert list(result) == [Hit("a", 2.5, "first", {"year": 1999}), Hit("ü", 1.25, "zweitens: größer", {})]
    assert result.version == 7 and len(result) == 2 and result[-1].id == "ü" and result[:1] == (result[0],)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"mode": "maxsim", "exact": True}, {}),
        ({"mode": "rerank", "n_candidates": 50}, {"mode": "rerank", "n_candidates": 50}),
        ({"mode": "hybrid", "maxsim_weight": np.float32(0.25)}, {"mode": "hybrid", "maxsim_weight": "0.25"}),
        ({"exact": False, "n_probe": np.int64(3)}, {"exact": False, "n_probe": 3}),
        ({"offset": 0, "normalize": False, "min_score": None}, {}),
        ({"offset": 5, "normalize": True, "min_score": 0.5}, {"offset": 5, "normalize": True, "min_score": "0.5"}),
    ],
)
async def test_search_says_how_to_find(client, triton, options, sent):
    triton.answer = asked
    await client.search("docs", "q", **options)
    (request,) = triton.requests
    plain = {"collection": "docs", "top_k": 10, "with_text": True, "with_metadata": True}
    assert request.parameters == {**plain, **sent} and request.model == "search"


async def test_bm25_needs_no_encoder_and_finds_what_there_is(client, triton):
    triton.answer = lambda _: {
        "IDS": [["a", "b"], ["c", ""]],
        "SCORES": np.array([[2.5, 1.25], [0.5, -np.inf]], np.float32),
        "VERSION": np.array([[7], [7]]),
    }
    found = await client.search_batch("docs", ["x", "y"], mode="bm25", with_text=False, with_metadata=False)
    (request,) = triton.requests
    assert request.model == "search" and list(request.inputs) == ["QUERY"]
    assert [[hit.id for hit in result] for result in found] == [["a", "b"], ["c"]]


async def test_search_asks_only_for_what_is_wanted(client, triton):
    triton.answer = asked
    result = await client.search("docs", "q", with_text=False, with_metadata=False)
    (request,) = triton.requests
    # Neither sent nor read from the store.
    assert set(request.outputs) == {"IDS", "SCORES", "VERSION"}
    assert (request.parameters["with_text"], request.parameters["with_metadata"]) == (False, False)
    assert result[0] == Hit("a", 2.5, None, None)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
async def test_search_by_embeddings(client, triton, dtype):
    triton.answer = asked
    query = np.arange(6, dtype=dtype).reshape(2, 3).T  # not contiguous
    result = await client.search("docs", query)
    (request,) = triton.requests
    assert request.model == "search"
    assert request.inputs["QUERY_EMBEDDINGS"].dtype == np.float32
    np.testing.assert_array_equal(request.inputs["QUERY_EMBEDDINGS"], query[None])
    np.testing.assert_array_equal(request.inputs["QUERY_MASK"], [[1, 1, 1]])
    assert [hit.id for hit in result] == ["a", "ü"]


async def test_embeddings_of_different_lengths_share_a_request(client, triton):
    triton.answer = lambda _: {
        "IDS": [["a"], ["b"]],
        "SCORES": np.ones((2, 1), np.float32),
        "VERSION": np.full((2, 1), 1),
    }
    short, long = np.full((1, 4), 2.0), np.full((3, 4), 3.0)
    results = await client.search_batch("docs", [short, long], with_text=False, with_metadata=False)
    assert [result[0].id for result in results] == ["a", "b"]
    (request,) = triton.requests
    np.testing.assert_array_equal(request.inputs["QUERY_MASK"], [[1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(request.inputs["QUERY_EMBEDDINGS"][0], [[2.0] * 4, [0.0] * 4, [0.0] * 4])
    np.testing.assert_array_equal(request.inputs["QUERY_EMBEDDINGS"][1], long)


def numbered_hits(request):
    """One hit a query, whose id is the query."""
    queries = column(request, "QUERY")
    return {
        "IDS": [[query] for query in queries],
        "SCORES": np.ones((len(queries), 1), np.float32),
        "VERSION": np.full((len(queries), 1), 1),
    }


async def test_search_batch_splits_and_keeps_the_order(client, triton):
    triton.answer = numbered_hits
    queries = [f"query {i}" for i in range(150)]
    results = await client.search_batch("docs", queries, with_text=False, with_metadata=False)
    assert [len(request.inputs["QUERY"]) for request in triton.requests] == [64, 64, 22]
    assert [result[0].id for result in results] == queries


async def test_no_queries_no_request(client, triton):
    assert await client.search_batch("docs", []) == []
    assert await client.encode_query([]) == []
    assert await client.get("docs", []) == []
    assert await client.rerank("q", []) == []
    assert await client.rerank("q", collection="docs", ids=[]) == []
    assert await client.upsert("docs", []) == UpsertResult(0)
    assert await client.delete("docs", []) == DeleteResult(0)
    assert triton.requests == []


async def test_no_hits_at_all(client, triton):
    empty: dict = {"IDS": np.empty((1, 0), object), "SCORES": np.empty((1, 0), np.float32), "VERSION": np.array([[3]])}
    empty |= {"TEXTS": empty["IDS"], "METADATA": empty["IDS"]}
    triton.answer = lambda _: empty
    result = await client.search("docs", "q")
    assert list(result) == [] and result.version == 3


async def test_rerank_texts(client, triton):
    triton.answer = lambda _: {"SCORES": np.array([[1.0, 3.0, 2.0, 3.0]], np.float32)}
    results = await client.rerank("q", ["w", "x", "y", "z"], top_n=3)
    (request,) = triton.requests
    assert request.model == "rerank" and request.inputs["QUERY"].tolist() == [[b"q"]]
    assert request.inputs["DOCUMENTS"].tolist() == [[b"w", b"x", b"y", b"z"]]
    assert results == [RerankResult(1, 3.0), RerankResult(3, 3.0), RerankResult(2, 2.0)]


async def test_rerank_stored_documents(client, triton):
    triton.answer = lambda _: {
        "IDS": [["c", "a"]],
        "SCORES": np.array([[9, 4]], np.float32),
        "VERSION": np.array([[1]]),
    }
    results = await client.rerank("q", collection="docs", ids=["a", "gone", "c", "a"])
    (request,) = triton.requests
    assert request.model == "search" and request.parameters["top_k"] == 3
    assert request.inputs["CANDIDATE_IDS"].tolist() == [[b"a", b"gone", b"c"]]
    assert results == [RerankResult(2, 9.0, "c"), RerankResult(0, 4.0, "a"), RerankResult(3, 4.0, "a")]


EXPLANATION = {
    "score": 2.5,
    "query_tokens": [
        {"token": "[CLS]", "start": None, "end": None, "similarity": 0.0, "contribution": 0.0, "match": None},
        {
            "token": "q",
            "start": 0,
            "end": 1,
            "similarity": 2.5,
            "contribution": 2.5,
            "match": {"token": "f", "start": 0, "end": 1, "cluster": [{"token": "f", "start": 0, "end": 1}]},
        },
    ],
    "spans": [{"start": 0, "end": 5, "score": 0.5, "text": "first", "found_by": [1]}],
    "special_share": 0.25,
    "exact": False,
    "read": [0, 5],
    "document_tokens": [{"token": "f", "start": 0, "end": 1}, {"token": "[SEP]", "start": None, "end": None}],
    "matrix": [[0, 0], [2.5, 1]],
    "of a newer server": {},
}


async def test_explain(client, triton):
    triton.answer = lambda _: {**HITS, "EXPLANATIONS": [[json.dumps(EXPLANATION), ""]]}
    found = await client.explain("docs", "q", ["ü", "gone", "a"], matrix=True)
    (request,) = triton.requests
    plain = {"collection": "docs", "with_text": True, "with_metadata": True}
    assert request.parameters == {**plain, "top_k": 3, "explain": 3, "explain_matrix": True}
    assert request.inputs["CANDIDATE_IDS"].tolist() == [["ü".encode(), b"gone", b"a"]]
    assert [hit and hit.id for hit in found] == ["ü", None, "a"] and found[0].explanation is None
    explanation = found[2].explanation
    assert explanation.matrix.tolist() == EXPLANATION["matrix"] and explanation.read == (0, 5)
    special, token = explanation.query_tokens
    assert special.is_special and special.match is None
    assert token.match == DocumentToken("f", 0, 1, (Token("f", 0, 1),)) and not token.is_special
    assert explanation.spans == (Span(0, 5, 0.5, "first", (1,)),)


@pytest.mark.parametrize(("explain", "sent"), [(True, 10), (64, 64), (False, None), (0, None)])
async def test_search_says_how_many_hits_to_explain(client, triton, explain, sent):
    triton.answer = lambda _: {**HITS, "EXPLANATIONS": [[json.dumps(EXPLANATION), ""]]}
    (result,) = await client.search_batch("docs", ["q"], explain=explain)
    assert triton.requests[0].parameters.get("explain") == sent
    assert ("EXPLANATIONS" in triton.requests[0].outputs) == (result[0].explanation is not None) == bool(sent)


async def test_a_batch_of_explained_searches_is_sent_in_small_ones(client, triton):
    def answer(request):
        rows = len(request.inputs["QUERY"])
        one = {**HITS, "EXPLANATIONS": [["", ""]]}
        return {k: np.repeat(v, rows, axis=0) if isinstance(v, np.ndarray) else v * rows for k, v in one.items()}

    triton.answer = answer
    assert len(await client.search_batch("docs", ["q"] * 14, explain=True)) == 14
    assert [len(request.inputs["QUERY"]) for request in triton.requests] == [6, 6, 2]


def encoded(request):
    """Per text, as many tokens as it has characters, in a rectangle of 8; every value says whose it is."""
    ((name, texts),) = request.inputs.items()
    lengths = [len(text) for (text,) in texts]
    mask = np.array([[1] * length + [0] * (8 - length) for length in lengths])
    assert name == {"encode_query": "QUERY", "encode_document": "DOCUMENT"}[request.model]
    embeddings = np.ones((len(texts), 8, 4), np.float32) * mask[..., None].astype(np.float32)
    return {"EMBEDDINGS": embeddings, "EMBEDDING_MASK": mask}


@pytest.mark.parametrize("method", ["encode_query", "encode_document"])
async def test_encode(client, triton, method):
    triton.answer = encoded
    one = await getattr(client, method)("four")
    assert one.shape == (4, 4) and one.dtype == np.float32 and one.flags.writeable and (one == 1).all()
    texts = ["a" * (1 + i % 7) for i in range(40)]
    several = await getattr(client, method)(texts, batch_size=16)
    assert [len(embeddings) for embeddings in several] == [len(text) for text in texts]
    assert [len(next(iter(request.inputs.values()))) for request in triton.requests] == [1, 16, 16, 8]
    assert triton.requests[0].model == method and triton.requests[0].parameters == {}


async def test_upsert(client, triton):
    counts = {"VERSION": np.array([[42], [42]]), "ADDED": np.array([[1], [0]]), "REPLACED": np.array([[0], [1]])}
    triton.answer = lambda _: counts
    documents = [Document("a", "größer", {"n": 1, "ü": [None]}), {"id": "b", "text": "two"}]
    assert await client.upsert("docs", documents, codec="int8") == UpsertResult(42, added=1, replaced=1)
    (request,) = triton.requests
    assert request.model == "ingest"
    assert request.parameters == {"collection": "docs", "operation": "upsert", "codec": "int8"}
    assert column(request, "ID") == ["a", "b"] and column(request, "TEXT") == ["größer", "two"]
    assert [json.loads(metadata) for metadata in column(request, "METADATA")] == [{"n": 1, "ü": [None]}, {}]


async def test_delete(client, triton):
    def answer(request):
        rows = (len(request.inputs["ID"]), 1)
        return {"VERSION": np.full(rows, len(triton.requests)), "DELETED": np.ones(rows, np.int64)}

    triton.answer = answer
    ids = [str(i) for i in range(70)]
    assert await client.delete("docs", [*ids, "3"]) == DeleteResult(2, deleted=70)
    first, second = triton.requests
    assert first.parameters == {"collection": "docs", "operation": "delete"} and list(first.inputs) == ["ID"]
    assert column(first, "ID") + column(second, "ID") == ids


async def test_get(client, triton):
    def answer(request):
        ids = [value.decode() for value in request.inputs["IDS"][0]]
        rows = [json.dumps({"id": i, "text": "t" + i, "metadata": {"n": i}}) if i != "1" else "null" for i in ids]
        return {"ROWS": [rows]}

    triton.answer = answer
    documents = await client.get("docs", [str(i) for i in range(66)])
    assert [request.inputs["IDS"].shape for request in triton.requests] == [(1, 64), (1, 2)]
    assert triton.requests[0].model == "catalog"
    assert triton.requests[0].parameters == {"collection": "docs", "operation": "get"}
    assert documents[0] == Document("0", "t0", {"n": "0"}) and documents[1] is None and documents[65].id == "65"


async def test_count_and_collections(client, triton):
    collection = {
        "name": "docs",
        "count": 3,
        "version": 9,
        "codec": "float16",
        "dim": 128,
        "fingerprint": "abc",
        "fields": {"year": "int"},
        "document_length": 180,
        "long_documents": "windows",
        "pooling_factor": 1,
        "codebook": None,
    }
    rows = {"count": [{"count": 3, "version": 9}], "collections": [collection | {"of a later server": 1}]}
    triton.answer = lambda request: {"ROWS": [[json.dumps(row) for row in rows[request.parameters["operation"]]]]}
    assert await client.count("docs") == 3
    assert await client.collections() == [CollectionInfo(**collection)]
    assert [request.parameters for request in triton.requests] == [
        {"collection": "docs", "operation": "count"},
        {"operation": "collections"},
    ]
    # A model that batches needs an input to count rows by.
    assert [request.inputs["IDS"].shape for request in triton.requests] == [(1, 0), (1, 0)]


async def test_no_collections(client, triton):
    triton.answer = lambda _: {"ROWS": np.empty((1, 0), object)}
    assert await client.collections() == []


async def test_server_info(client, triton):
    triton.answer = lambda _: {"ROWS": [['{"dim": 128}']]}
    info = await client.server_info()
    assert triton.requests[0].parameters == {"operation": "encoder"}
    assert (info.name, info.version, info.extensions) == ("triton", "2.51.0", ("statistics", "trace"))
    assert info.encoder == {"dim": 128}


async def test_statistics(client, triton):
    busy = triton.statistics.model_stats.add(name="maxsim", version="1", inference_count=40, execution_count=5)
    busy.inference_stats.success.count = 20
    busy.inference_stats.fail.count = 1
    busy.inference_stats.queue.count, busy.inference_stats.queue.ns = 20, 20 * 3_000
    for part, ns in (("compute_input", 1_000), ("compute_infer", 8_000), ("compute_output", 2_000)):
        duration = getattr(busy.inference_stats, part)
        duration.count, duration.ns = 20, 20 * ns
    triton.statistics.model_stats.add(name="idle", version="1")
    busy_stats, idle_stats = await client.statistics()
    assert (busy_stats.model, busy_stats.requests, busy_stats.failed, busy_stats.executions) == ("maxsim", 20, 1, 5)
    assert (busy_stats.mean_queue_us, busy_stats.mean_compute_us) == (3.0, 11.0)
    assert (idle_stats.requests, idle_stats.mean_queue_us, idle_stats.mean_compute_us) == (0, 0.0, 0.0)


async def test_readiness(client, triton, make_client):
    assert await client.is_ready() is True
    triton.ready = False
    assert await client.is_ready() is False
    nobody = make_client("127.0.0.1:1")
    assert await nobody.is_ready() is False
    await nobody.close()


async def test_headers_go_with_every_request(make_client, triton):
    triton.answer = asked
    client = make_client(triton.address, headers={"triton-grpc-protocol-key": "secret"})
    await client.search("docs", "q")
    assert triton.requests[0].headers["triton-grpc-protocol-key"] == "secret"
    await client.close()


def test_the_twins_do_not_drift_apart():
    def methods(kind):
        return {
            name: inspect.signature(member)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(AsyncClient) == methods(Client)
    assert inspect.signature(AsyncClient) == inspect.signature(Client)


YEAR = {"field": "year", "operator": "==", "value": 1999}


async def test_filters_go_along_as_json(client, triton):
    triton.answer = asked
    since = {"operator": "NOT", "conditions": [{"field": "seen", "operator": "<", "value": datetime(2024, 5, 1)}, YEAR]}
    await client.search("docs", "q", filters=since)
    await client.search_batch("docs", ["q"], filters={})
    await client.rerank("q", collection="docs", ids=["a"], filters=YEAR)
    sent = [request.parameters.get("filters") for request in triton.requests]
    assert json.loads(sent[0])["conditions"] == [since["conditions"][0] | {"value": "2024-05-01T00:00:00"}, YEAR]
    assert sent[1] is None and json.loads(sent[2]) == YEAR
    assert sent[0].isascii()


async def test_delete_and_count_by_filter(client, triton):
    triton.answer = lambda _: {
        "VERSION": np.array([[5]]),
        "DELETED": np.array([[9]]),
        "ROWS": [['{"count": 2, "version": 5}']],
    }
    assert await client.delete("docs", filters=YEAR) == DeleteResult(5, deleted=9)
    assert await client.count("docs", filters=YEAR) == 2
    deleted, counted = triton.requests
    assert deleted.inputs["ID"].shape == (1, 0)
    assert deleted.parameters == {"collection": "docs", "operation": "delete", "filters": json.dumps(YEAR)}
    assert counted.parameters == {"collection": "docs", "operation": "count", "filters": json.dumps(YEAR)}


async def test_scroll(client, triton):
    row = json.dumps({"id": "b", "text": "t", "metadata": {}})
    triton.answer = lambda _: {"ROWS": [[row]]}
    assert await client.scroll("docs") == [Document("b", "t")]
    await client.scroll("docs", after="ü", limit=2, filters=YEAR)
    first, second = triton.requests
    assert first.parameters == {"collection": "docs", "operation": "scroll", "page": 64}
    assert first.inputs["IDS"].shape == (1, 0) and second.inputs["IDS"].tolist() == [["ü".encode()]]
    assert (second.parameters["page"], second.parameters["filters"]) == (2, json.dumps(YEAR))


async def test_the_life_of_a_collection(client, triton):
    info = CollectionInfo("docs", 0, 1, "float32", 128, "abc", {"year": "int"}, 120, "truncate", 2, None)
    rows = {"collection": vars(info), "aliases": {"alias": "live", "collection": "docs"}}
    triton.answer = lambda request: (
        {"VERSION": np.array([[1]])}
        if request.model == "ingest"
        else {"ROWS": [[json.dumps(rows[request.parameters["operation"]])]]}
    )
    how = {"document_length": 120, "long_documents": "truncate", "pooling_factor": 2}
    assert await client.create_collection("docs", codec="float32", fields={"year": "int"}, **how) == info
    assert await client.describe_collection("docs") == info
    assert await client.compact("docs") == 1
    await client.set_alias("live", "docs")
    assert await client.aliases() == {"live": "docs"}
    await client.drop_alias("live")
    await client.drop_collection("docs")
    writes = [request for request in triton.requests if request.model == "ingest"]
    assert [request.parameters for request in writes] == [
        {"collection": "docs", "operation": "create", "codec": "float32", "fields": '{"year": "int"}', **how},
        {"collection": "docs", "operation": "compact"},
        {"collection": "docs", "operation": "set_alias", "alias": "live"},
        {"collection": "live", "operation": "drop_alias", "alias": "live"},
        {"collection": "docs", "operation": "drop"},
    ]
    assert {request.inputs["ID"].shape for request in writes} == {(1, 0)}


async def test_further_writes(client, triton):
    triton.answer = lambda _: {
        "VERSION": np.array([[6]]),
        "REPLACED": np.array([[2]]),
        "DELETED": np.array([[3]]),
        "ROWS": [['{"name": "docs"}']],
    }
    when = {"seen": datetime(2024, 5, 1), "old": None}
    assert await client.update_metadata("docs", ["a", "b", "a"], metadata=when) == UpdateResult(6, updated=2)
    assert await client.update_metadata("docs", filters=YEAR, metadata={"n": 1}) == UpdateResult(6, updated=2)
    assert await client.clear("docs") == DeleteResult(6, deleted=3)
    await client.upsert("docs", [Document("a", "t")], if_exists="skip")
    await client.add_fields("docs", {"tags": "list[str]"})
    await client.drop_fields("docs", ["tags"])
    await client.create_collection("none", fields={})
    await client.create_collection("inferred")
    by_ids, matching, cleared, upserted, *others = [r for r in triton.requests if r.model == "ingest"]
    assert column(by_ids, "ID") == ["a", "b"]
    assert column(by_ids, "METADATA") == ['{"seen": "2024-05-01T00:00:00", "old": null}'] * 2
    assert matching.inputs["ID"].shape == (1, 0) and column(matching, "METADATA") == ['{"n": 1}']
    assert matching.parameters == {
        "collection": "docs",
        "operation": "update_metadata",
        "filters": json.dumps(YEAR),
    }
    assert cleared.parameters["operation"] == "clear" and upserted.parameters["if_exists"] == "skip"
    fields = [request.parameters.get("fields") for request in others]
    assert fields == ['{"tags": "list[str]"}', '{"tags": null}', "{}", None]


async def test_facets_and_bounds(client, triton):
    rows = {"facet": ['{"value": "x", "count": 2}', '{"value": "y", "count": 1}'], "min_max": ["[1, 2.5]"]}
    triton.answer = lambda request: {"ROWS": [rows[request.parameters["operation"]]]}
    assert await client.facet("docs", "kind", filters=YEAR) == [FacetValue("x", 2), FacetValue("y", 1)]
    assert await client.min_max("docs", "year") == (1, 2.5)
    assert triton.requests[0].parameters == {
        "collection": "docs",
        "operation": "facet",
        "field": "kind",
        "limit": 10,
        "filters": json.dumps(YEAR),
    }
    rows["min_max"] = [""]
    assert await client.min_max("docs", "year") is None


async def test_embeddings_are_told_apart_by_their_tokens(client, triton):
    def answer(request):
        ids = [value.decode() for value in request.inputs["IDS"][0]]
        rows = ["null" if i == "1" else json.dumps({"id": i, "text": "t", "metadata": {}, "tokens": 2}) for i in ids]
        tokens = np.repeat([float(i) for i in ids if i != "1"] or [0.0], 2).astype(np.float32)
        return {"ROWS": [rows], "EMBEDDINGS": np.tile(tokens[None, :, None], (1, 1, 3))}

    triton.answer = answer
    documents = await client.get("docs", [str(i) for i in range(10)], with_embeddings=True)
    assert [request.inputs["IDS"].shape for request in triton.requests] == [(1, 8), (1, 2)]
    assert triton.requests[0].parameters["with_embeddings"] is True and documents[1] is None
    for i in (0, *range(2, 10)):
        assert documents[i] == Document(str(i), "t")
        np.testing.assert_array_equal(documents[i].embeddings, np.full((2, 3), i, np.float32))


async def test_headers_of_one_call(make_client, triton):
    triton.answer = asked
    client = make_client(triton.address, headers={"tenant": "a"})
    other = client._client.with_headers({"X-Request": "7"})
    result = other.search("docs", "q")
    await result if inspect.isawaitable(result) else None
    await client.search("docs", "q")
    sent = [{name: request.headers.get(name) for name in ("tenant", "x-request")} for request in triton.requests]
    assert sent == [{"tenant": "a", "x-request": "7"}, {"tenant": "a", "x-request": None}]
    await client.close()
