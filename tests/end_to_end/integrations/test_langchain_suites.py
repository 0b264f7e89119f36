"""LangChain's own tests of vector stores and retrievers (langchain-tests), none of them overridden."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from tridex.integrations import Connection
from tridex.integrations.langchain import TridexRetriever, TridexVectorStore


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, collection: str, connection: Connection) -> TridexVectorStore:
        return TridexVectorStore(collection, connection)


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def documents(self, collection: str, connection: Connection) -> None:
        """What the suite's retriever finds; its parameters are a property, which cannot ask for fixtures."""
        self.parameters = {"collection": collection, "connection": connection}
        TridexVectorStore(collection, connection).add_texts([f"late interaction, part {i}" for i in range(4)])

    @property
    def retriever_constructor(self) -> type[TridexRetriever]:
        return TridexRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.parameters

    @property
    def retriever_query_example(self) -> str:
        return "late interaction"
