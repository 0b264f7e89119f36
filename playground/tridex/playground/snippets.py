"""The page's search as a program, for the client and for each framework; they run as they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pprint import pformat
from textwrap import dedent
from typing import Any

Condition = Mapping[str, Any]
"""A field, an operator and a value, as in a filter."""

_LLAMA_INDEX_OPERATORS = {"contains_any": "any"}
"""Where LlamaIndex has another name for an operator of the page."""


@dataclass(frozen=True)
class Snippet:
    """A program that prints the hits."""

    name: str
    install: str
    code: str


def filters_of(conditions: Sequence[Condition]) -> dict[str, Any] | None:
    """All of the conditions as a filter of the server; None where there are none."""
    return {"operator": "AND", "conditions": [dict(one) for one in conditions]} if conditions else None


def snippets(address: str, collection: str, query: str, conditions: Sequence[Condition]) -> list[Snippet]:
    """A search for `query` among the documents that fulfil all `conditions`."""
    return [
        _client(address, collection, query, conditions),
        _langchain(address, collection, query, conditions),
        _llama_index(address, collection, query, conditions),
        _haystack(address, collection, query, conditions),
    ]


def _client(address: str, collection: str, query: str, conditions: Sequence[Condition]) -> Snippet:
    code = f"""
        from tridex.client import Client

        query = {query!r}
        filters = {_shown(filters_of(conditions))}
        with Client({address!r}) as client:
            for hit in client.search({collection!r}, query, top_k=5, filters=filters, explain=True):
                print(f"{{hit.score:.2f}}  {{hit.id}}: {{hit.text:.80}}")
                print("     ", [span.text for span in hit.explanation.spans])
        """
    return Snippet("Python", "pip install tridex", _code(code))


def _langchain(address: str, collection: str, query: str, conditions: Sequence[Condition]) -> Snippet:
    code = f"""
        from tridex.integrations.langchain import TridexRetriever

        query = {query!r}
        filters = {_shown(filters_of(conditions))}
        retriever = TridexRetriever(collection={collection!r}, connection={address!r}, k=5)
        for document in retriever.invoke(query, filter=filters):
            print(f"{{document.metadata['relevance_score']:.2f}}  {{document.id}}: {{document.page_content:.80}}")
        """
    return Snippet("LangChain", "pip install 'tridex[langchain]'", _code(code))


def _llama_index(address: str, collection: str, query: str, conditions: Sequence[Condition]) -> Snippet:
    given = [
        {
            "key": one["field"],
            "operator": _LLAMA_INDEX_OPERATORS.get(one["operator"], one["operator"]),
            "value": one["value"],
        }
        for one in conditions
    ]
    code = f"""
        from llama_index.core.vector_stores import MetadataFilters
        from tridex.integrations.llama_index import TridexRetriever

        query = {query!r}
        filters = MetadataFilters(filters={_shown(given)})
        retriever = TridexRetriever({collection!r}, {address!r}, similarity_top_k=5, filters=filters)
        for node in retriever.retrieve(query):
            print(f"{{node.score:.2f}}  {{node.node_id}}: {{node.text:.80}}")
        """
    return Snippet("LlamaIndex", "pip install 'tridex[llamaindex]'", _code(code))


def _haystack(address: str, collection: str, query: str, conditions: Sequence[Condition]) -> Snippet:
    on_meta = [{**one, "field": f"meta.{one['field']}"} for one in conditions]
    code = f"""
        from haystack_integrations.components.retrievers.tridex import TridexRetriever
        from haystack_integrations.document_stores.tridex import TridexDocumentStore

        query = {query!r}
        filters = {_shown(filters_of(on_meta))}
        store = TridexDocumentStore({collection!r}, address={address!r})
        for document in TridexRetriever(store, top_k=5).run(query, filters=filters)["documents"]:
            print(f"{{document.score:.2f}}  {{document.id}}: {{document.content:.80}}")
        """
    return Snippet("Haystack", "pip install 'tridex[haystack]'", _code(code))


def _shown(value: Any) -> str:
    """A value as code; further lines are indented as in `_code`'s templates."""
    return pformat(value, width=88, sort_dicts=False).replace("\n", "\n" + 8 * " ")


def _code(template: str) -> str:
    return dedent(template).strip() + "\n"
