"""Haystack's adapters beyond its own tests."""

from __future__ import annotations

from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.document_stores.errors import DocumentStoreError
from haystack.errors import FilterError

from haystack_integrations.components.rankers.tridex import TridexRanker
from haystack_integrations.components.retrievers.tridex import TridexRetriever
from haystack_integrations.document_stores.tridex import TridexDocumentStore
from tridex.client import Client, NotFound
from tridex.serving.server import TritonServer

DOCUMENTS = [
    Document(id="a", content="the capital of France is Paris", meta={"year": 2019}),
    Document(id="b", content="a custard base with caramelised sugar", meta={"year": 2020}),
    Document(id="c", content="remove a directory and its files", meta={"year": 2021}),
]


@pytest.fixture
def store(collection: str, server: TritonServer) -> TridexDocumentStore:
    store = TridexDocumentStore(collection, address=server.address, timeout_s=120)
    store.write_documents(DOCUMENTS)
    return store


def ids(found: dict[str, Any]) -> list[str]:
    return [document.id for document in found["documents"]]


async def test_a_pipeline_that_was_saved_runs(store: TridexDocumentStore, server: TritonServer) -> None:
    pipeline = Pipeline()
    pipeline.add_component("retriever", TridexRetriever(store, top_k=3))
    pipeline.add_component("ranker", TridexRanker(server.address, top_k=1))
    pipeline.connect("retriever.documents", "ranker.documents")
    asked = {name: {"query": "delete a folder"} for name in ("retriever", "ranker")}
    (found,) = pipeline.run(asked)["ranker"]["documents"]
    assert (found.id, found.meta) == ("c", {"year": 2021})
    # A loaded pipeline has a connection of its own; what one search has seen, every later one sees.
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.run(asked)["ranker"]["documents"] == [found]
    assert (await loaded.run_async(asked))["ranker"]["documents"] == [found]


async def test_a_query_may_be_token_embeddings(store: TridexDocumentStore, client: Client) -> None:
    retriever = TridexRetriever(store, top_k=1)
    by_text = retriever.run(query="dessert of sugar")
    embeddings = client.encode_query("dessert of sugar").tolist()
    by_embeddings = retriever.run(query_multivector_embedding=embeddings)
    assert ids(by_text) == ids(by_embeddings) == ["b"]
    assert by_embeddings["documents"][0].score == pytest.approx(by_text["documents"][0].score, abs=1e-3)
    assert await retriever.run_async(query_multivector_embedding=embeddings) == by_embeddings


def test_filters_of_a_run_replace_or_are_merged(store: TridexDocumentStore) -> None:
    from_2020 = {"field": "meta.year", "operator": ">=", "value": 2020}
    to_2020 = {"field": "meta.year", "operator": "<=", "value": 2020}
    both = {"operator": "AND", "conditions": [to_2020]}
    assert sorted(ids(TridexRetriever(store, filters=from_2020).run(query="sugar"))) == ["b", "c"]
    assert sorted(ids(TridexRetriever(store, filters=from_2020).run(query="sugar", filters=to_2020))) == ["a", "b"]
    merging = TridexRetriever(store, filters={"operator": "AND", "conditions": [from_2020]}, filter_policy="merge")
    assert ids(merging.run(query="sugar", filters=both)) == ["b"]


def test_options_of_a_search_pass_through(store: TridexDocumentStore) -> None:
    assert ids(TridexRetriever(store, search_options={"mode": "bm25"}).run(query="sugar")) == ["b"]


def test_a_ranker_copies(server: TritonServer) -> None:
    ranked = TridexRanker(server.address).run("delete a folder", DOCUMENTS)
    assert ids(ranked)[0] == "c"
    assert [document.score for document in DOCUMENTS] == [None] * 3


def test_errors_are_haystacks(store: TridexDocumentStore, server: TritonServer) -> None:
    retriever = TridexRetriever(store)
    with pytest.raises(FilterError, match="colour"):
        retriever.run(query="sugar", filters={"field": "meta.colour", "operator": "==", "value": "red"})
    with pytest.raises(ValueError, match="query: expected text"):
        retriever.run(query=" ")
    with pytest.raises(ValueError, match=r"documents\[0\]: expected content that is text"):
        store.write_documents([Document(content=None)])
    with pytest.raises(DocumentStoreError, match="no-such-collection") as caught:
        TridexDocumentStore("no-such-collection", address=server.address).count_documents()
    assert isinstance(caught.value, NotFound)
