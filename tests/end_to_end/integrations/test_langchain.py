"""LangChain's adapters beyond its own tests."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_core.exceptions import LangChainException

from tridex.client import NotFound
from tridex.integrations import Connection
from tridex.integrations.langchain import TridexRerank, TridexRetriever, TridexVectorStore

TEXTS = ["the capital of France is Paris", "a custard base with caramelised sugar", "remove a directory and its files"]


@pytest.fixture
def store(collection: str, connection: Connection) -> TridexVectorStore:
    return TridexVectorStore(collection, connection)


def test_a_retriever_sees_what_a_store_has_just_written(store: TridexVectorStore) -> None:
    retriever = TridexRetriever(collection=store.collection, connection=store.connection, k=1)
    for i in range(20):
        store.add_texts([f"bulletin number {i}"], ids=["bulletin"])
        assert [found.page_content for found in retriever.invoke("bulletin")] == [f"bulletin number {i}"]


async def test_coroutines_see_what_synchronous_code_has_just_written(store: TridexVectorStore) -> None:
    for i in range(20):
        store.add_texts([f"bulletin number {i}"], ids=["bulletin"])
        (found,) = await store.asimilarity_search("bulletin")
        assert found.page_content == f"bulletin number {i}"
        await store.aadd_texts([f"answer number {i}"], ids=["bulletin"])
        (found,) = store.similarity_search("bulletin")
        assert found.page_content == f"answer number {i}"


def test_one_store_serves_one_event_loop_after_the_other(store: TridexVectorStore) -> None:
    asyncio.run(store.aadd_texts(TEXTS))
    assert [len(asyncio.run(store.asimilarity_search("sugar", k=k))) for k in (1, 2, 3)] == [1, 2, 3]


def test_hits_have_their_scores(store: TridexVectorStore) -> None:
    store.add_texts(TEXTS, [{"n": i} for i in range(3)], ids=["a", "b", "c"])
    (found, score), *_ = store.similarity_search_with_score("dessert of sugar")
    assert (found.id, found.metadata) == ("b", {"n": 1})
    (same, *_) = TridexRetriever(collection=store.collection, connection=store.connection).invoke("dessert of sugar")
    assert (same.id, same.metadata) == ("b", {"n": 1, "relevance_score": score})


def test_hits_have_the_spans_that_they_were_found_by(store: TridexVectorStore) -> None:
    store.add_texts(TEXTS)
    options = {"explain": True}
    retriever = TridexRetriever(collection=store.collection, connection=store.connection, k=1, search_options=options)
    (found,) = retriever.invoke("dessert of sugar")
    spans = found.metadata["spans"]
    assert [found.page_content[span["start"] : span["end"]] for span in spans] == [span["text"] for span in spans]
    assert "sugar" in [span["text"] for span in spans]


async def test_relevance_scores_are_shares(store: TridexVectorStore) -> None:
    store.add_texts(TEXTS)
    scores = [score for _, score in store.similarity_search_with_relevance_scores("dessert of sugar")]
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)
    threshold = {"score_threshold": scores[1]}
    retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=threshold)
    assert len(retriever.invoke("dessert of sugar")) == 2
    assert len(await retriever.ainvoke("dessert of sugar")) == 2


async def test_everything_can_be_removed(store: TridexVectorStore) -> None:
    for delete_all in (True, False):
        store.add_texts(TEXTS)
        assert store.delete() if delete_all else await store.adelete()
        assert store.similarity_search("sugar") == []


def test_filters_ask_for_metadata(store: TridexVectorStore) -> None:
    store.add_texts(TEXTS, [{"year": 2019 + i, "tags": ["text", f"t{i}"]} for i in range(3)], ids=["a", "b", "c"])
    ids = [found.id for found in store.similarity_search("sugar", filter={"year": {"$gt": 2019, "$lt": 2021}})]
    assert ids == ["b"]
    assert [found.id for found in store.similarity_search("sugar", filter={"tags": {"$contains": "t2"}})] == ["c"]
    retriever = TridexRetriever(collection=store.collection, connection=store.connection, filter={"year": 2019})
    assert [found.id for found in retriever.invoke("sugar")] == ["a"]
    assert [found.id for found in retriever.invoke("sugar", filter={"year": 2021})] == ["c"]
    with pytest.raises(ValueError, match="colour"):
        store.similarity_search("sugar", filter={"colour": "red"})


def test_options_of_a_search_pass_through(store: TridexVectorStore) -> None:
    store.add_texts(TEXTS)
    assert [found.page_content for found in store.similarity_search("sugar", mode="bm25")] == [TEXTS[1]]
    retriever = store.as_retriever(search_kwargs={"k": 2, "mode": "bm25"})
    assert [found.page_content for found in retriever.invoke("France")] == [TEXTS[0]]
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        store.similarity_search("sugar", colour="red")


def test_documents_become_a_store(collection: str, connection: Connection) -> None:
    documents = [Document(text, id=str(i)) for i, text in enumerate(TEXTS)]
    store = TridexVectorStore.from_documents(documents, None, collection=collection, connection=connection)  # type: ignore[arg-type]
    assert [found.page_content for found in store.get_by_ids(["2", "gone", "0"])] == [TEXTS[2], TEXTS[0]]


async def test_rerank_orders_what_others_found(connection: Connection) -> None:
    rerank = TridexRerank(connection=connection, top_n=2)
    documents = [Document(text, metadata={"n": i}) for i, text in enumerate(TEXTS)]
    best, second = rerank.compress_documents(documents, "delete a folder")
    assert best.page_content == TEXTS[2]
    assert best.metadata["relevance_score"] > second.metadata["relevance_score"]
    assert list(await rerank.acompress_documents(documents, "delete a folder")) == [best, second]
    assert [found.metadata for found in documents] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert list(rerank.compress_documents([], "delete a folder")) == []


def test_wrong_arguments_are_value_errors(store: TridexVectorStore) -> None:
    for call in (
        lambda: store.similarity_search(" "),
        lambda: store.similarity_search("query", k=0),
        lambda: store.add_texts(["a", "b"], ids=["1"]),
        lambda: store.add_texts(["a"], [{}, {}]),
        lambda: store.add_texts(["a"], [{"not JSON": object()}]),
    ):
        with pytest.raises(ValueError):
            call()


def test_a_collection_that_does_not_exist_is_named(connection: Connection) -> None:
    with pytest.raises(LangChainException, match="no-such-collection") as caught:
        TridexVectorStore("no-such-collection", connection).similarity_search("query")
    assert isinstance(caught.value, NotFound)
