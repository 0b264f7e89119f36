"""A node postprocessor that orders nodes by MaxSim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from llama_index.core.bridge.pydantic import BeforeValidator, Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from tridex.client import RerankResult
from tridex.integrations.core.connection import Connection, connect
from tridex.integrations.core.errors import host_errors

from .nodes import ERRORS


class TridexRerank(BaseNodePostprocessor):
    """The nodes of any retriever in the order of late interaction, with its scores.

        index.as_query_engine(node_postprocessors=[TridexRerank(top_n=5)])

    The nodes' texts are encoded for each query; nothing is stored.
    """

    connection: Annotated[Connection, BeforeValidator(connect)] = Field(default_factory=Connection, exclude=True)
    """The server, as a Connection or an address."""
    top_n: int | None = None
    """Most nodes to keep; all where left out."""

    @classmethod
    def class_name(cls) -> str:
        """Its name in LlamaIndex's traces."""
        return "TridexRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        with host_errors(ERRORS):
            return _ordered(nodes, self.connection.client.rerank(query, _texts(nodes), top_n=self.top_n))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        with host_errors(ERRORS):
            return _ordered(nodes, await self.connection.async_client.rerank(query, _texts(nodes), top_n=self.top_n))


def _query(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise ValueError("query_bundle: expected the query that the nodes are ranked for, got None")
    return query_bundle.query_str


def _texts(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [scored.node.get_content(MetadataMode.NONE) for scored in nodes]


def _ordered(nodes: Sequence[NodeWithScore], results: Sequence[RerankResult]) -> list[NodeWithScore]:
    """Copies: the caller's nodes keep the scores of their retriever."""
    return [NodeWithScore(node=nodes[result.index].node, score=result.relevance_score) for result in results]
