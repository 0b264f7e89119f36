"""Haystack's components are saved with their pipelines and loaded again."""

from __future__ import annotations

import pytest
from haystack import Pipeline
from haystack.document_stores.types import FilterPolicy
from haystack.errors import FilterError
from haystack.utils import Secret

from haystack_integrations.components.rankers.tridex import TridexRanker
from haystack_integrations.components.retrievers.tridex import TridexRetriever
from haystack_integrations.document_stores.tridex import TridexDocumentStore
from haystack_integrations.document_stores.tridex.filters import server_filters

FILTER = {"field": "meta.year", "operator": ">=", "value": 2020}
TOKEN = Secret.from_env_var("TRIDEX_TEST_TOKEN")


def test_a_pipeline_is_saved_and_loaded() -> None:
    store = TridexDocumentStore(
        "docs", address="search.example:8001", headers={"x-team": "a", "authorization": TOKEN}, tls=True, timeout_s=5
    )
    pipeline = Pipeline()
    options = {"mode": "hybrid"}
    retriever = TridexRetriever(store, filters=FILTER, top_k=3, filter_policy="merge", search_options=options)
    pipeline.add_component("retriever", retriever)
    pipeline.add_component("ranker", TridexRanker("search.example", top_k=2, headers={"authorization": TOKEN}))
    pipeline.connect("retriever.documents", "ranker.documents")

    loaded = Pipeline.loads(pipeline.dumps())

    assert loaded.to_dict() == pipeline.to_dict()
    found = loaded.get_component("retriever")
    assert isinstance(found, TridexRetriever)
    assert found.filter_policy is FilterPolicy.MERGE
    assert found.document_store.headers == {"x-team": "a", "authorization": TOKEN}
    assert "TRIDEX_TEST_TOKEN" in pipeline.dumps()


def test_a_secret_is_resolved_at_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TridexDocumentStore("docs", address="localhost:1", headers={"authorization": TOKEN})
    with pytest.raises(ValueError, match="TRIDEX_TEST_TOKEN"):
        _ = store.connection
    monkeypatch.setenv("TRIDEX_TEST_TOKEN", "Bearer 1")
    assert store.connection is store.connection


def test_a_token_is_not_written_to_a_file() -> None:
    ranker = TridexRanker(headers={"authorization": Secret.from_token("Bearer 1")})
    with pytest.raises(ValueError, match="serialize token"):
        ranker.to_dict()


def test_a_retriever_is_for_this_store() -> None:
    with pytest.raises(TypeError, match="document_store: expected a TridexDocumentStore, got str"):
        TridexRetriever("docs")  # type: ignore[arg-type]


@pytest.mark.parametrize("queries", [{}, {"query": "late", "query_multivector_embedding": [[1.0]]}])
def test_a_run_has_one_query(queries: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="either query or query_multivector_embedding"):
        TridexRetriever(TridexDocumentStore("docs")).run(**queries)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"field": "content", "operator": "==", "value": "a"}, "a field of meta, like 'meta.year', got 'content'"),
        ({"operator": "AND", "conditions": [FILTER | {"value": (1, 2)}]}, r"a list as the value, got \(1, 2\)"),
        ({"operator": "AND", "conditions": ["year"]}, "conditions that are dictionaries, got 'year'"),
    ],
)
def test_filters_that_are_not_on_meta_are_refused(given: dict[str, object], named: str) -> None:
    with pytest.raises(FilterError, match=named):
        server_filters(given)


def test_filters_that_are_none() -> None:
    assert server_filters(None) is None
    assert server_filters({}) is None
