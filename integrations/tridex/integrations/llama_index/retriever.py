"""A retriever over one collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from tridex.client.channel import DEFAULT_ADDRESS
from tridex.integrations.core.connection import Connection, connect
from tridex.integrations.core.errors import host_errors

from .filters import server_filters
from .nodes import ERRORS, scored


class TridexRetriever(BaseRetriever):
    """The nodes of a collection that score best. Documents that LlamaIndex did not write come as TextNodes.

        TridexRetriever("docs", "localhost:8001", similarity_top_k=5).retrieve("what does ColBERT keep?")

    Args:
        collection: A collection or an alias.
        connection: The server, as a Connection or an address.
        similarity_top_k: Most nodes to return.
        filters: What every node fulfils.
        search_options: Further arguments of `Client.search`, such as `mode` or `exact`.
        callback_manager: LlamaIndex's.

    Raises:
        ValueError: For a wrong argument, an InvalidArgument of the client, too. Every other error is the client's own.
    """

    def __init__(
        self,
        collection: str,
        connection: Connection | str = DEFAULT_ADDRESS,
        *,
        similarity_top_k: int = 2,
        filters: MetadataFilters | None = None,
        search_options: Mapping[str, Any] | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager)
        self.collection = collection
        self.connection = connect(connection)
        self.similarity_top_k = similarity_top_k
        self.filters = filters
        self.search_options = dict(search_options or {})

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with host_errors(ERRORS):
            return scored(self.connection.client.search(self.collection, query_bundle.query_str, **self._arguments()))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        with host_errors(ERRORS):
            return scored(
                await self.connection.async_client.search(self.collection, query_bundle.query_str, **self._arguments())
            )

    def _arguments(self) -> dict[str, Any]:
        return {**self.search_options, "top_k": self.similarity_top_k, "filters": server_filters(self.filters)}
