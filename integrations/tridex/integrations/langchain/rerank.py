"""A document compressor that orders documents by MaxSim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import BeforeValidator, ConfigDict, Field

from tridex.client import RerankResult
from tridex.integrations.core.connection import Connection, connect
from tridex.integrations.core.errors import host_errors

from .searching import ERRORS


class TridexRerank(BaseDocumentCompressor):
    """The documents of any retriever in the order of late interaction, with `relevance_score` in their metadata.

        ContextualCompressionRetriever(base_compressor=TridexRerank(top_n=5), base_retriever=...)

    The documents' texts are encoded for each query; nothing is stored.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    connection: Annotated[Connection, BeforeValidator(connect)] = Field(default_factory=Connection)
    """The server, as a Connection or an address."""
    top_n: int | None = None
    """Most documents to keep; all where left out."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The best `top_n` documents, best first."""
        texts = [document.page_content for document in documents]
        with host_errors(ERRORS):
            return _ordered(documents, self.connection.client.rerank(query, texts, top_n=self.top_n))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """`compress_documents`, awaited."""
        texts = [document.page_content for document in documents]
        with host_errors(ERRORS):
            return _ordered(documents, await self.connection.async_client.rerank(query, texts, top_n=self.top_n))


def _ordered(documents: Sequence[Document], results: Sequence[RerankResult]) -> list[Document]:
    """Copies: the caller's documents stay as they are."""
    return [_scored(documents[result.index], result.relevance_score) for result in results]


def _scored(found: Document, score: float) -> Document:
    return found.model_copy(update={"metadata": {**found.metadata, "relevance_score": score}})
