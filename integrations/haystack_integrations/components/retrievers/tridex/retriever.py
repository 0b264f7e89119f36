"""A retriever over a TridexDocumentStore."""

from __future__ import annotations

from typing import Any

import numpy as np
from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from haystack_integrations.document_stores.tridex import TridexDocumentStore
from haystack_integrations.document_stores.tridex.documents import from_server
from haystack_integrations.document_stores.tridex.errors import store_errors
from haystack_integrations.document_stores.tridex.filters import server_filters
from tridex.client import SearchResult


@component
class TridexRetriever:
    """The documents that score best for a query, given as text or as token embeddings.

        store = TridexDocumentStore("docs", address="localhost:8001")
        TridexRetriever(store, top_k=5).run(query="what does ColBERT keep?")

    Args:
        document_store: What is searched; the retriever sees at once what the store writes.
        filters: What every document fulfils.
        top_k: Most documents to return.
        filter_policy: Whether the filters of a run replace these or are merged with them.
        search_options: Further arguments of `Client.search`, such as `mode` or `exact`.

    Raises:
        TypeError: The store is another one.
    """

    def __init__(
        self,
        document_store: TridexDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        search_options: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(document_store, TridexDocumentStore):
            raise TypeError(f"document_store: expected a TridexDocumentStore, got {type(document_store).__name__}")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = (
            filter_policy if isinstance(filter_policy, FilterPolicy) else FilterPolicy.from_str(filter_policy)
        )
        self.search_options = search_options

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are saved."""
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            search_options=self.search_options,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TridexRetriever:
        """What `to_dict` wrote."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """The best `documents`, best first, with their scores.

        Args:
            query: The query's text, or None.
            query_multivector_embedding: Its token embeddings [tokens, dim] by the checkpoint that the server serves, or
                None.
            filters: What every document fulfils.
            top_k: Most documents to return.

        Raises:
            ValueError: For a wrong argument, or where not exactly one of the two queries is given.
            FilterError: For filters that the server cannot apply.
            DocumentStoreError: For every other failure of the server.
        """
        asked, arguments = self._arguments(query, query_multivector_embedding, filters, top_k)
        with store_errors(filtered=arguments["filters"] is not None):
            store = self.document_store
            return _documents(store.connection.client.search(store.collection, asked, **arguments))

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | None = None,
        query_multivector_embedding: list[list[float]] | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """`run`, awaited."""
        asked, arguments = self._arguments(query, query_multivector_embedding, filters, top_k)
        with store_errors(filtered=arguments["filters"] is not None):
            store = self.document_store
            return _documents(await store.connection.async_client.search(store.collection, asked, **arguments))

    def _arguments(
        self,
        query: str | None,
        embeddings: list[list[float]] | None,
        filters: dict[str, Any] | None,
        top_k: int | None,
    ) -> tuple[Any, dict[str, Any]]:
        """The query and the keyword arguments of `Client.search`."""
        if (query is None) == (embeddings is None):
            raise ValueError("expected either query or query_multivector_embedding")
        arguments = {
            **(self.search_options or {}),
            "top_k": self.top_k if top_k is None else top_k,
            "filters": server_filters(apply_filter_policy(self.filter_policy, self.filters, filters)),
        }
        return query if embeddings is None else np.asarray(embeddings, dtype=np.float32), arguments


def _documents(result: SearchResult) -> dict[str, list[Document]]:
    return {"documents": [from_server(hit, score=hit.score) for hit in result]}
