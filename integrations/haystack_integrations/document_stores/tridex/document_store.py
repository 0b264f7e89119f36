"""A document store over one collection. The server encodes: documents need no embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret

from tridex.client import FacetValue, IfExistsName
from tridex.client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S
from tridex.integrations import Connection
from tridex.protocol.limits import MAX_FACET_VALUES

from .documents import from_server, to_server
from .errors import store_errors
from .fields import bounds, field_name, fields_info, page_of_values
from .filters import server_filters
from .server import headers_from_dict, headers_to_dict, open_connection

_IF_EXISTS: Mapping[DuplicatePolicy, IfExistsName] = {
    # Haystack leaves NONE to the store; its own stores refuse duplicates.
    DuplicatePolicy.NONE: "fail",
    DuplicatePolicy.FAIL: "fail",
    DuplicatePolicy.SKIP: "skip",
    DuplicatePolicy.OVERWRITE: "overwrite",
}


class TridexDocumentStore:
    """A collection as Haystack's document store; every method has an asynchronous twin, NAME_async.

        store = TridexDocumentStore("docs", address="localhost:8001")
        store.write_documents([Document(content="Late interaction keeps every token.", meta={"year": 2020})])
        store.filter_documents({"field": "meta.year", "operator": ">=", "value": 2020})

    A write makes the collection where it does not exist yet. Stored are id, content and meta of a document; an
    embedding that it brings is not used, as the server encodes. Documents come back in the order of their ids.

    Args:
        collection: A collection or an alias.
        address: HOST:PORT of the server's gRPC endpoint, or HOST alone for port 8001.
        headers: Sent with every request; a Secret of an environment variable can be saved with a pipeline.
        tls: Encrypt the channel.
        timeout_s: Seconds that each request may take.

    Raises:
        FilterError: For filters that the server cannot apply.
        ValueError: For another wrong argument.
        DuplicateDocumentError: For a document that exists, where the policy forbids it. Neither it is written nor what
            comes after it; of many documents, some before it are.
        DocumentStoreError: For every other failure of the server. Each is an error of `tridex.client`, too.
    """

    def __init__(
        self,
        collection: str,
        *,
        address: str = DEFAULT_ADDRESS,
        headers: dict[str, str | Secret] | None = None,
        tls: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self.collection = collection
        self.address = address
        self.headers = headers
        self.tls = tls
        self.timeout_s = timeout_s

    @cached_property
    def connection(self) -> Connection:
        """Opened at first use, when secrets are resolved. Retrievers of this store use it, too."""
        return open_connection(self.address, self.headers, self.tls, self.timeout_s)

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are saved."""
        return default_to_dict(
            self,
            collection=self.collection,
            address=self.address,
            headers=headers_to_dict(self.headers),
            tls=self.tls,
            timeout_s=self.timeout_s,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TridexDocumentStore:
        """What `to_dict` wrote."""
        parameters = data.get("init_parameters", {})
        headers = headers_from_dict(parameters.get("headers"))
        return default_from_dict(cls, {**data, "init_parameters": {**parameters, "headers": headers}})

    def count_documents(self) -> int:
        """How many documents there are."""
        with store_errors():
            return self.connection.client.count(self.collection)

    async def count_documents_async(self) -> int:
        """`count_documents`, awaited."""
        with store_errors():
            return await self.connection.async_client.count(self.collection)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that match, or all."""
        conditions, found = server_filters(filters), list[Document]()
        if conditions and not self.count_documents():
            return found  # a collection has fields from its first documents on, and filters ask for fields
        with store_errors(filtered=True):
            while page := self.connection.client.scroll(
                self.collection, filters=conditions, after=found[-1].id if found else None
            ):
                found += map(from_server, page)
        return found

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """`filter_documents`, awaited."""
        conditions, found = server_filters(filters), list[Document]()
        if conditions and not await self.count_documents_async():
            return found
        with store_errors(filtered=True):
            while page := await self.connection.async_client.scroll(
                self.collection, filters=conditions, after=found[-1].id if found else None
            ):
                found += map(from_server, page)
        return found

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Writes documents; how many were written. Without a policy, as with FAIL, documents that exist are refused."""
        with store_errors():
            written = self.connection.client.upsert(self.collection, to_server(documents), if_exists=_IF_EXISTS[policy])
        return len(documents) - written.skipped

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """`write_documents`, awaited."""
        with store_errors():
            written = await self.connection.async_client.upsert(
                self.collection, to_server(documents), if_exists=_IF_EXISTS[policy]
            )
        return len(documents) - written.skipped

    def delete_documents(self, document_ids: list[str]) -> None:
        """Removes documents; ids that do not exist are left out."""
        with store_errors():
            self.connection.client.delete(self.collection, document_ids)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """`delete_documents`, awaited."""
        with store_errors():
            await self.connection.async_client.delete(self.collection, document_ids)

    def delete_all_documents(self) -> None:
        """Removes every document; the collection stays."""
        with store_errors():
            self.connection.client.clear(self.collection)

    async def delete_all_documents_async(self) -> None:
        """`delete_all_documents`, awaited."""
        with store_errors():
            await self.connection.async_client.clear(self.collection)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Removes the documents that match; how many there were."""
        with store_errors(filtered=True):
            return self.connection.client.delete(self.collection, filters=server_filters(filters)).deleted

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """`delete_by_filter`, awaited."""
        with store_errors(filtered=True):
            done = await self.connection.async_client.delete(self.collection, filters=server_filters(filters))
            return done.deleted

    def update_by_filter(self, filters: dict[str, Any], meta: Mapping[str, Any]) -> int:
        """Sets entries of meta in the documents that match; how many there are. Nothing is encoded again."""
        with store_errors(filtered=True):
            conditions = server_filters(filters)
            return self.connection.client.update_metadata(self.collection, filters=conditions, metadata=meta).updated

    async def update_by_filter_async(self, filters: dict[str, Any], meta: Mapping[str, Any]) -> int:
        """`update_by_filter`, awaited."""
        with store_errors(filtered=True):
            conditions, client = server_filters(filters), self.connection.async_client
            return (await client.update_metadata(self.collection, filters=conditions, metadata=meta)).updated

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many documents match."""
        if not self.count_documents():
            return 0  # as above
        with store_errors(filtered=True):
            return self.connection.client.count(self.collection, filters=server_filters(filters))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """`count_documents_by_filter`, awaited."""
        if not await self.count_documents_async():
            return 0
        with store_errors(filtered=True):
            return await self.connection.async_client.count(self.collection, filters=server_filters(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """How many values each field has in the documents that match, up to 10,000."""
        return {field_name(field): len(self._values(field, filters)) for field in metadata_fields}

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """`count_unique_metadata_by_filter`, awaited."""
        return {field_name(field): len(await self._values_async(field, filters)) for field in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The fields that filters can ask for, each with its type."""
        return fields_info(self._fields())

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """`get_metadata_fields_info`, awaited."""
        return fields_info(await self._fields_async())

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The `min` and `max` of a field of numbers or times, None where no document has it."""
        field = field_name(metadata_field)
        if field not in self._fields():
            return bounds(None)
        with store_errors():
            return bounds(self.connection.client.min_max(self.collection, field))

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """`get_metadata_field_min_max`, awaited."""
        field = field_name(metadata_field)
        if field not in await self._fields_async():
            return bounds(None)
        with store_errors():
            return bounds(await self.connection.async_client.min_max(self.collection, field))

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """A page of the values of a field, and how many there are, of the 10,000 most frequent."""
        return page_of_values(self._values(metadata_field, filters), search_term, from_, size)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """`get_metadata_field_unique_values`, awaited."""
        return page_of_values(await self._values_async(metadata_field, filters), search_term, from_, size)

    def _fields(self) -> Mapping[str, str]:
        with store_errors():
            return self.connection.client.describe_collection(self.collection).fields

    async def _fields_async(self) -> Mapping[str, str]:
        with store_errors():
            return (await self.connection.async_client.describe_collection(self.collection)).fields

    def _values(self, field: str, filters: dict[str, Any] | None) -> list[FacetValue]:
        """Of a field, none where the collection does not have it."""
        name, conditions = field_name(field), server_filters(filters)
        if name not in self._fields():
            return []
        with store_errors(filtered=True):
            return self.connection.client.facet(self.collection, name, filters=conditions, limit=MAX_FACET_VALUES)

    async def _values_async(self, field: str, filters: dict[str, Any] | None) -> list[FacetValue]:
        name, conditions = field_name(field), server_filters(filters)
        if name not in await self._fields_async():
            return []
        with store_errors(filtered=True):
            client = self.connection.async_client
            return await client.facet(self.collection, name, filters=conditions, limit=MAX_FACET_VALUES)
