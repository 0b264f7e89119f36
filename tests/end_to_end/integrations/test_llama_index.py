"""LlamaIndex's adapters; it has no tests of its own for them."""

from __future__ import annotations

import pytest
from llama_index.core import Document
from llama_index.core.llms import MockLLM
from llama_index.core.schema import IndexNode, NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from tridex import client
from tridex.integrations import Connection
from tridex.integrations.llama_index import TridexIndex, TridexRerank, TridexRetriever

TEXTS = ["the capital of France is Paris", "a custard base with caramelised sugar", "remove a directory and its files"]


@pytest.fixture
def index(collection: str, connection: Connection) -> TridexIndex:
    return TridexIndex(collection, connection)


def source(document_id: str) -> dict[NodeRelationship, RelatedNodeInfo]:
    return {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document_id)}


def test_nodes_come_back_as_they_were(index: TridexIndex) -> None:
    node = TextNode(
        id_="n1", text=TEXTS[1], metadata={"year": 2020}, relationships=source("d1"), start_char_idx=3, end_char_idx=40
    )
    pointer = IndexNode(id_="n2", text=TEXTS[0], index_id="elsewhere")
    index.insert_nodes([node, pointer])
    found = {scored.node.node_id: scored.node for scored in index.as_retriever().retrieve("dessert")}
    assert found == {"n1": node, "n2": pointer}


async def test_coroutines_find_the_same(index: TridexIndex) -> None:
    await index.ainsert(Document(id_="d1", text=TEXTS[0]))
    await index.ainsert(Document(id_="d2", text=TEXTS[1]))
    retriever = index.as_retriever(similarity_top_k=1)
    (found,) = await retriever.aretrieve("dessert of sugar")
    assert (found.text, found.node.ref_doc_id) == (TEXTS[1], "d2")
    assert retriever.retrieve("dessert of sugar") == [found]


def test_documents_that_others_wrote_are_nodes(index: TridexIndex, connection: Connection) -> None:
    connection.client.upsert(index.collection, [client.Document("1", TEXTS[0], {"year": 2020})])
    (found,) = TridexRetriever(index.collection, connection).retrieve("Paris")
    assert isinstance(found.node, TextNode)
    assert (found.node.node_id, found.text, found.metadata) == ("1", TEXTS[0], {"year": 2020})


def test_nodes_are_removed(index: TridexIndex) -> None:
    index.insert_nodes([TextNode(id_=str(i), text=text) for i, text in enumerate(TEXTS)])
    index.delete_nodes(["0", "2", "gone"])
    assert [found.node.node_id for found in index.as_retriever(similarity_top_k=3).retrieve("files")] == ["1"]


def test_documents_are_replaced_and_removed(index: TridexIndex) -> None:
    first, second = Document(id_="d1", text=TEXTS[0]), Document(id_="d2", text=TEXTS[1])
    assert index.refresh_ref_docs([first, second]) == [True, True]
    changed = Document(id_="d2", text=TEXTS[2])
    assert TridexIndex(index.collection, index.connection).refresh_ref_docs([first, changed]) == [False, True]
    found = index.as_retriever(similarity_top_k=3).retrieve("files")
    assert [(scored.node.ref_doc_id, scored.text) for scored in found] == [("d2", TEXTS[2]), ("d1", TEXTS[0])]
    index.delete_ref_doc("d2")
    index.delete_ref_doc("gone")
    assert [scored.node.ref_doc_id for scored in index.as_retriever().retrieve("files")] == ["d1"]


def test_documents_are_removed_where_fields_are_not_inferred(collection: str, connection: Connection) -> None:
    connection.client.drop_collection(collection)
    connection.client.create_collection(collection, fields={})
    index = TridexIndex.from_documents(
        [Document(id_="d1", text=TEXTS[0])], collection=collection, connection=connection
    )
    index.delete_ref_doc("d1")
    assert index.as_retriever().retrieve("Paris") == []


async def test_documents_are_replaced_and_removed_by_coroutines(index: TridexIndex) -> None:
    await index.adelete_ref_doc("gone")
    first, changed = Document(id_="d1", text=TEXTS[0]), Document(id_="d1", text=TEXTS[1])
    assert [await index.arefresh_ref_docs([given]) for given in (first, first, changed)] == [[True], [False], [True]]
    assert [found.text for found in await index.as_retriever(similarity_top_k=3).aretrieve("Paris")] == [TEXTS[1]]
    await index.adelete_ref_doc("d1")
    assert await index.as_retriever().aretrieve("Paris") == []


def test_filters_ask_for_metadata(index: TridexIndex) -> None:
    index.insert_nodes([TextNode(id_=str(i), text=text, metadata={"year": 2019 + i}) for i, text in enumerate(TEXTS)])
    filters = MetadataFilters(filters=[MetadataFilter(key="year", value=2019, operator=FilterOperator.GT)])
    found = index.as_retriever(similarity_top_k=3, filters=filters).retrieve("France")
    assert {scored.node.node_id for scored in found} == {"1", "2"}
    with pytest.raises(ValueError, match="colour"):
        index.as_retriever(filters=MetadataFilters(filters=[MetadataFilter(key="colour", value="red")])).retrieve("a")


def test_a_query_engine_asks_with_what_was_found(collection: str, connection: Connection) -> None:
    documents = [Document(text=text) for text in TEXTS]
    index = TridexIndex.from_documents(documents, collection=collection, connection=connection)
    rerank = TridexRerank(connection=connection, top_n=1)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=3, node_postprocessors=[rerank])
    prompt = str(engine.query("how is a folder deleted?"))  # the fake model answers with its prompt
    assert TEXTS[2] in prompt
    assert TEXTS[0] not in prompt


async def test_rerank_orders_what_others_found(connection: Connection) -> None:
    rerank = TridexRerank(connection=connection)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    ordered = rerank.postprocess_nodes(nodes, query_str="delete a folder")
    assert ordered[0].text == TEXTS[2]
    assert sorted((found.score for found in ordered), reverse=True) == [found.score for found in ordered]
    assert await rerank.apostprocess_nodes(nodes, query_str="delete a folder") == ordered
    assert [found.score for found in nodes] == [0.5] * 3
    with pytest.raises(ValueError, match="query_bundle: expected the query"):
        rerank.postprocess_nodes(nodes)


def test_wrong_arguments_are_value_errors(index: TridexIndex) -> None:
    with pytest.raises(ValueError, match="query: expected text"):
        index.as_retriever().retrieve(" ")
    with pytest.raises(ValueError, match=r"documents\[0\].text: expected text"):
        index.insert_nodes([TextNode(text="")])
