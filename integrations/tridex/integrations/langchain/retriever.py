"""A retriever over one collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.structured_query import FilterDirective
from pydantic import BeforeValidator, Field

from tridex.integrations.core.connection import Connection, connect
from tridex.integrations.core.errors import host_errors

from .searching import ERRORS, scored, search_arguments


class TridexRetriever(BaseRetriever):
    """The documents of a collection that score best, each with `relevance_score` in its metadata.

        retriever = TridexRetriever(collection="docs", connection="localhost:8001", k=5)
        retriever.invoke("what does ColBERT keep?")
        retriever.invoke("the same of this year", k=3, filter={"year": {"$gte": 2026}}, mode="hybrid")

    Give it `store.connection` to see at once what a `TridexVectorStore` writes.

    Raises:
        ValueError: For a wrong argument.
        LangChainException: For every other failure. Each is an error of `tridex.client`, too.
    """

    collection: str
    """A collection or an alias."""
    connection: Annotated[Connection, BeforeValidator(connect)] = Field(default_factory=Connection)
    """The server, as a Connection or an address."""
    k: int = 4
    """Most documents to return."""
    filter: Mapping[str, Any] | FilterDirective | None = None
    """What every document fulfils; `tridex.integrations.langchain.filters` has the forms."""
    search_options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `Client.search`, such as `mode` or `exact`."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        with host_errors(ERRORS):
            hits = self.connection.client.search(self.collection, query, **self._arguments(**overrides))
        return [scored(hit) for hit in hits]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **overrides: Any
    ) -> list[Document]:
        with host_errors(ERRORS):
            hits = await self.connection.async_client.search(self.collection, query, **self._arguments(**overrides))
        return [scored(hit) for hit in hits]

    def _arguments(
        self,
        k: int | None = None,
        filter: Mapping[str, Any] | FilterDirective | None = None,  # noqa: A002 - LangChain's word
        **options: Any,
    ) -> dict[str, Any]:
        """Of one call; what is left out is the retriever's own."""
        return search_arguments(
            self.k if k is None else k,
            self.filter if filter is None else filter,
            {**self.search_options, **options},
        )
