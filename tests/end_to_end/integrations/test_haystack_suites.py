"""Haystack's own tests of document stores (haystack.testing), synchronous and asynchronous.

Overridden are what Haystack leaves to each store: how documents are compared, and writing without a policy.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing import document_store as suites
from haystack.testing import document_store_async as async_suites

from haystack_integrations.document_stores.tridex import TridexDocumentStore
from tridex.serving.server import TritonServer


class Comparison:
    """Fixture and comparison of both suites."""

    @pytest.fixture
    def document_store(self, collection: str, server: TritonServer) -> TridexDocumentStore:
        return TridexDocumentStore(collection, address=server.address, timeout_s=120)

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        """Order: a collection is read in the order of ids, the suite compares with the order of writing. Embeddings:
        the server makes its own, one for each token; those that the suite's documents bring are not stored."""
        stored = [replace(document, embedding=None) for document in expected]
        assert received == sorted(stored, key=lambda document: document.id)


class TestDocumentStore(
    Comparison,
    suites.DocumentStoreBaseExtendedTests,
    suites.CountDocumentsByFilterTest,
    suites.CountUniqueMetadataByFilterTest,
    suites.GetMetadataFieldsInfoTest,
    suites.GetMetadataFieldMinMaxTest,
    suites.GetMetadataFieldUniqueValuesTest,
):
    def test_write_documents(self, document_store: TridexDocumentStore) -> None:
        """The suite's own raises, as Haystack leaves writing without a policy to the store."""
        assert document_store.write_documents([Document(id="1", content="first")]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([Document(id="1", content="second"), Document(id="2", content="third")])
        assert [found.content for found in document_store.filter_documents()] == ["first"]

    @staticmethod
    @pytest.mark.xfail(raises=ValueError, strict=True, reason="a field has values of one type, and says so")
    def test_get_metadata_field_unique_values_distinct_types(document_store: TridexDocumentStore) -> None:
        suites.GetMetadataFieldUniqueValuesTest.test_get_metadata_field_unique_values_distinct_types(document_store)


class TestDocumentStoreAsync(
    Comparison,
    async_suites.CountDocumentsAsyncTest,
    async_suites.CountDocumentsByFilterAsyncTest,
    async_suites.CountUniqueMetadataByFilterAsyncTest,
    async_suites.DeleteAllAsyncTest,
    async_suites.DeleteByFilterAsyncTest,
    async_suites.DeleteDocumentsAsyncTest,
    async_suites.FilterDocumentsAsyncTest,
    async_suites.GetMetadataFieldMinMaxAsyncTest,
    async_suites.GetMetadataFieldUniqueValuesAsyncTest,
    async_suites.GetMetadataFieldsInfoAsyncTest,
    async_suites.UpdateByFilterAsyncTest,
    async_suites.WriteDocumentsAsyncTest,
):
    async def test_write_documents_async(self, document_store: TridexDocumentStore) -> None:
        """As above."""
        assert await document_store.write_documents_async([Document(id="1", content="first")]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([Document(id="1", content="second")])
        assert [found.content for found in await document_store.filter_documents_async()] == ["first"]

    @staticmethod
    @pytest.mark.xfail(raises=ValueError, strict=True, reason="a field has values of one type, and says so")
    async def test_get_metadata_field_unique_values_distinct_types_async(document_store: TridexDocumentStore) -> None:
        suite = async_suites.GetMetadataFieldUniqueValuesAsyncTest
        await suite.test_get_metadata_field_unique_values_distinct_types_async(document_store)
