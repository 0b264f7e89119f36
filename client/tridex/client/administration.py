"""The methods of both clients that manage collections and aliases, and ask about the server."""

from __future__ import annotations

from collections.abc import Mapping

from .connection import AsyncConnection, Connection
from .errors import Timeout, Unavailable
from .results import CollectionInfo, ModelStatistics, ServerInfo


class Administration(Connection):
    """The part of `Client` that is not about documents."""

    def collections(self, *, timeout_s: float | None = None) -> list[CollectionInfo]:
        """Every collection of the store."""
        return self._run(self._operations.collections(), timeout_s)

    def create_collection(
        self,
        collection: str,
        *,
        codec: str | None = None,
        fields: Mapping[str, str] | None = None,
        document_length: int | None = None,
        long_documents: str | None = None,
        pooling_factor: int | None = None,
        timeout_s: float | None = None,
    ) -> CollectionInfo:
        """Makes an empty collection. Raises AlreadyExists where the name is taken, by an alias too.

        `fields` are the metadata fields that filters can ask for, by name, each "str", "int", "float", "bool" or
        "datetime" (ISO 8601). Documents need not have them, and may have others; what they have must be of the type.
        `codec` is how token embeddings are stored; the server's default where left out.

        The encoder reads at most `document_length` tokens at once, the checkpoint's own length where left out. Of a
        longer document it reads overlapping windows, which are scored as one document, or with `long_documents`
        "truncate" the beginning. `pooling_factor` keeps one token embedding, the mean of similar ones, for that many.
        """
        operation = self._operations.create_collection(
            collection,
            codec=codec,
            fields=fields,
            document_length=document_length,
            long_documents=long_documents,
            pooling_factor=pooling_factor,
        )
        return self._run(operation, timeout_s)

    def describe_collection(self, collection: str, *, timeout_s: float | None = None) -> CollectionInfo:
        """One collection: what was declared, and how much it holds."""
        return self._run(self._operations.describe_collection(collection), timeout_s)

    def drop_collection(self, collection: str, *, timeout_s: float | None = None) -> None:
        """Removes a collection and its documents. Refused while an alias leads to it."""
        return self._run(self._operations.drop_collection(collection), timeout_s)

    def compact(self, collection: str, *, timeout_s: float | None = None) -> int:
        """Rewrites the collection's small and half deleted files as large ones; the store version that this makes.

        Searches go on, writes wait. Disk space comes back about a minute later. It may take longer than the client's
        `timeout_s`; the server finishes what it began.
        """
        return self._run(self._operations.compact(collection), timeout_s)

    def set_alias(self, alias: str, collection: str, *, timeout_s: float | None = None) -> None:
        """Makes `alias` lead to `collection`, wherever it led before: searches see the one or the other, never neither.

        Wherever a collection is named, an alias will do. Setting it to the old collection again rolls back.
        """
        return self._run(self._operations.set_alias(alias, collection), timeout_s)

    def drop_alias(self, alias: str, *, timeout_s: float | None = None) -> None:
        """Removes an alias; the collection stays."""
        return self._run(self._operations.drop_alias(alias), timeout_s)

    def aliases(self, *, timeout_s: float | None = None) -> dict[str, str]:
        """Every alias, and the collection that it leads to."""
        return self._run(self._operations.aliases(), timeout_s)

    def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server can be reached and says that all of its models are ready."""
        try:
            return self._run(self._operations.is_ready(), timeout_s)
        except (Timeout, Unavailable):
            return False

    def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """The Triton server's name, version and extensions, and the manifest of the served encoder."""
        return self._run(self._operations.server_info(), timeout_s)

    def statistics(self, *, timeout_s: float | None = None) -> list[ModelStatistics]:
        """What every served model did since it was loaded: where the time of a search goes, stage by stage."""
        return self._run(self._operations.statistics(), timeout_s)


class AsyncAdministration(AsyncConnection):
    """The part of `AsyncClient` that is not about documents."""

    async def collections(self, *, timeout_s: float | None = None) -> list[CollectionInfo]:
        """`Client.collections`, awaited."""
        return await self._run(self._operations.collections(), timeout_s)

    async def create_collection(
        self,
        collection: str,
        *,
        codec: str | None = None,
        fields: Mapping[str, str] | None = None,
        document_length: int | None = None,
        long_documents: str | None = None,
        pooling_factor: int | None = None,
        timeout_s: float | None = None,
    ) -> CollectionInfo:
        """`Client.create_collection`, awaited."""
        operation = self._operations.create_collection(
            collection,
            codec=codec,
            fields=fields,
            document_length=document_length,
            long_documents=long_documents,
            pooling_factor=pooling_factor,
        )
        return await self._run(operation, timeout_s)

    async def describe_collection(self, collection: str, *, timeout_s: float | None = None) -> CollectionInfo:
        """`Client.describe_collection`, awaited."""
        return await self._run(self._operations.describe_collection(collection), timeout_s)

    async def drop_collection(self, collection: str, *, timeout_s: float | None = None) -> None:
        """`Client.drop_collection`, awaited."""
        return await self._run(self._operations.drop_collection(collection), timeout_s)

    async def compact(self, collection: str, *, timeout_s: float | None = None) -> int:
        """`Client.compact`, awaited."""
        return await self._run(self._operations.compact(collection), timeout_s)

    async def set_alias(self, alias: str, collection: str, *, timeout_s: float | None = None) -> None:
        """`Client.set_alias`, awaited."""
        return await self._run(self._operations.set_alias(alias, collection), timeout_s)

    async def drop_alias(self, alias: str, *, timeout_s: float | None = None) -> None:
        """`Client.drop_alias`, awaited."""
        return await self._run(self._operations.drop_alias(alias), timeout_s)

    async def aliases(self, *, timeout_s: float | None = None) -> dict[str, str]:
        """`Client.aliases`, awaited."""
        return await self._run(self._operations.aliases(), timeout_s)

    async def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """`Client.is_ready`, awaited."""
        try:
            return await self._run(self._operations.is_ready(), timeout_s)
        except (Timeout, Unavailable):
            return False

    async def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """`Client.server_info`, awaited."""
        return await self._run(self._operations.server_info(), timeout_s)

    async def statistics(self, *, timeout_s: float | None = None) -> list[ModelStatistics]:
        """`Client.statistics`, awaited."""
        return await self._run(self._operations.statistics(), timeout_s)
