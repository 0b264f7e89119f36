"""A ranker by late interaction, for the documents of any retriever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import Secret

from haystack_integrations.document_stores.tridex.errors import store_errors
from haystack_integrations.document_stores.tridex.server import headers_from_dict, headers_to_dict, open_connection
from tridex.client import RerankResult
from tridex.client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S
from tridex.integrations import Connection


@component
class TridexRanker:
    """Documents in the order of late interaction, with its scores. Their contents are encoded for each query.

    Args:
        address: HOST:PORT of the server's gRPC endpoint, or HOST alone for port 8001.
        top_k: Most documents to keep; all where left out.
        headers: Sent with every request; a Secret of an environment variable can be saved with the pipeline.
        tls: Encrypt the channel.
        timeout_s: Seconds that each request may take.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        top_k: int | None = None,
        headers: dict[str, str | Secret] | None = None,
        tls: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self.address = address
        self.top_k = top_k
        self.headers = headers
        self.tls = tls
        self.timeout_s = timeout_s

    @cached_property
    def connection(self) -> Connection:
        """Opened at first use, when secrets are resolved."""
        return open_connection(self.address, self.headers, self.tls, self.timeout_s)

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are saved."""
        return default_to_dict(
            self,
            address=self.address,
            top_k=self.top_k,
            headers=headers_to_dict(self.headers),
            tls=self.tls,
            timeout_s=self.timeout_s,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TridexRanker:
        """What `to_dict` wrote."""
        parameters = data.get("init_parameters", {})
        headers = headers_from_dict(parameters.get("headers"))
        return default_from_dict(cls, {**data, "init_parameters": {**parameters, "headers": headers}})

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """The best `documents`, best first, with their scores.

        Raises:
            ValueError: For a wrong argument, such as a document without content.
            DocumentStoreError: For a failure of the server.
        """
        top_n = self.top_k if top_k is None else top_k
        with store_errors():
            return _ordered(documents, self.connection.client.rerank(query, _contents(documents), top_n=top_n))

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run`, awaited."""
        top_n = self.top_k if top_k is None else top_k
        with store_errors():
            results = await self.connection.async_client.rerank(query, _contents(documents), top_n=top_n)
            return _ordered(documents, results)


def _contents(documents: Sequence[Document]) -> list[str]:
    return [document.content or "" for document in documents]


def _ordered(documents: Sequence[Document], results: Sequence[RerankResult]) -> dict[str, list[Document]]:
    """Copies: the caller's documents keep the scores of their retriever."""
    return {"documents": [replace(documents[result.index], score=result.relevance_score) for result in results]}
