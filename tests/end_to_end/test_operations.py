"""What the client offers, against the real server and the source library."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from eventually import eventually
from sentence_transformers import MultiVectorEncoder

from tridex.client import AsyncClient, Client, Document
from tridex.serving.metrics.stages import SEARCH_STAGES, read_stages
from tridex.serving.server import TritonServer

PLANET = {"kind": "planet"}
DOCUMENTS = [
    Document("venus", "Venus is often called Earth's twin because of its similar size and proximity.", PLANET),
    Document("mars", "Mars, known for its reddish appearance, is often referred to as the Red Planet.", PLANET),
    Document("jupiter", "Jupiter, the largest planet in our solar system, has a prominent red spot.", PLANET),
    Document("it's", "A quoted id; it must survive the store's SQL.", {}),
]
QUESTION = "Which planet is known as the Red Planet?"


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(str(checkpoint), device="cpu")


def test_the_life_of_a_document(client: Client) -> None:
    first = client.upsert("life", DOCUMENTS)
    assert client.count("life") == 4
    assert client.get("life", ["mars", "pluto"]) == [DOCUMENTS[1], None]
    assert client.search("life", QUESTION, top_k=2)[0].id == "mars"
    second = client.upsert("life", [Document("mars", "It is a chocolate bar.", {"kind": "food"})])
    assert (second.added, second.replaced) == (0, 1) and second.version > first.version
    # This client's own writes are seen by its next search.
    (hit,) = [hit for hit in client.search("life", "chocolate bar") if hit.id == "mars"]
    assert (hit.text, hit.metadata) == ("It is a chocolate bar.", {"kind": "food"})
    assert client.delete("life", ["mars", "it's", "never there"]).deleted == 2
    assert {hit.id for hit in client.search("life", QUESTION)} == {"venus", "jupiter"}
    (info,) = [info for info in client.collections() if info.name == "life"]
    assert (info.count, info.dim, info.codec) == (2, 128, "float16")


def test_encodings_are_the_source_librarys(client: Client, model: MultiVectorEncoder) -> None:
    texts = [document.text for document in DOCUMENTS]
    for ours, theirs in zip(client.encode_document(texts), model.encode_document(texts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(client.encode_query(QUESTION), model.encode_query(QUESTION), atol=1e-5)


def test_rerank_by_texts_and_by_ids_agree_with_the_source_library(client: Client, model: MultiVectorEncoder) -> None:
    client.upsert("rerank", DOCUMENTS, codec="float32")
    texts = [document.text for document in DOCUMENTS]
    expected = model.similarity([model.encode_query(QUESTION)], model.encode_document(texts))[0].tolist()
    by_texts = client.rerank(QUESTION, texts)
    assert [result.relevance_score for result in by_texts] == pytest.approx(sorted(expected, reverse=True), abs=1e-3)
    assert all(result.relevance_score == pytest.approx(expected[result.index], abs=1e-3) for result in by_texts)
    by_ids = client.rerank(QUESTION, collection="rerank", ids=["jupiter", "nowhere", "mars"], top_n=1)
    assert [(result.index, result.id) for result in by_ids] == [(2, "mars")]
    assert by_ids[0].relevance_score == pytest.approx(expected[1], abs=1e-3)


def test_search_by_embeddings_equals_search_by_text(client: Client) -> None:
    client.upsert("both", DOCUMENTS)
    by_text = client.search("both", QUESTION)
    by_embeddings = client.search("both", client.encode_query(QUESTION))
    assert [(hit.id, hit.score) for hit in by_text] == [(hit.id, pytest.approx(hit.score)) for hit in by_embeddings]


def test_a_batch_of_queries_scores_each_as_alone(client: Client) -> None:
    client.upsert("batch", DOCUMENTS)
    queries = [QUESTION, "twin", "a longer question about the spot on the largest of all the planets there are", "id"]
    together = client.search_batch("batch", queries)
    for query, result in zip(queries, together, strict=True):
        alone = client.search("batch", query)
        assert [hit.id for hit in alone] == [hit.id for hit in result]
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in result], abs=1e-5)


def test_equal_scores_come_in_the_order_of_ids(client: Client) -> None:
    keys = ["b", "é", "a", "B", "10", "9"]
    client.upsert("ties", [Document(key, "the same text", {}) for key in keys])
    assert [hit.id for hit in client.search("ties", "text")] == sorted(keys)
    assert [hit.id for hit in client.search("ties", "text", top_k=2)] == sorted(keys)[:2]


async def test_the_async_client_does_the_same(server: TritonServer) -> None:
    async with AsyncClient(server.address, timeout_s=60) as client:
        await client.upsert("async", DOCUMENTS)
        assert await client.is_ready()
        assert (await client.search("async", QUESTION))[0].id == "mars"
        assert (await client.rerank(QUESTION, [document.text for document in DOCUMENTS]))[0].index == 1
        await client.delete("async", ["mars"])
        assert await client.count("async") == 3


def test_the_server_says_what_it_serves(client: Client) -> None:
    info = client.server_info()
    assert client.is_ready()
    assert info.version == "2.51.0"
    assert (info.encoder["dim"], info.encoder["precision"]) == (128, "fp32")


def test_the_server_says_where_the_time_of_searches_goes(client: Client, server: TritonServer) -> None:
    client.upsert("stages", DOCUMENTS)
    metrics_url = f"http://{server.host}:{server.ports['metrics']}/metrics"
    client.search("stages", QUESTION)

    def searches() -> float:
        return read_stages(metrics_url)["answer"].requests

    # Models write what they have counted once a second.
    eventually(lambda: searches() > 0, within_s=60)
    time.sleep(3)  # until those of other tests are counted, too
    before = read_stages(metrics_url)
    began = time.monotonic()
    for _ in range(5):
        client.search("stages", QUESTION)
    elapsed = time.monotonic() - began
    eventually(lambda: searches() >= before["answer"].requests + 5, within_s=60)
    spent = {stage: total.since(before[stage]) for stage, total in read_stages(metrics_url).items()}
    requests = {stage: total.requests for stage, total in spent.items() if total.requests}
    assert requests == dict.fromkeys(SEARCH_STAGES, 5)
    assert 0 < spent["encode"].seconds < sum(total.seconds for total in spent.values()) < elapsed + 1
