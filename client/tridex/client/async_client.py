"""The asyncio client: `Client`, awaited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar, overload

import grpc
from numpy.typing import ArrayLike
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tridex.protocol.limits import DEFAULT_PAGE, DEFAULT_TOP_K
from tridex.protocol.parameters import DEFAULT_MODE

from .channel import CHANNEL_ARGUMENTS
from .client import DEFAULT_ADDRESS, DEFAULT_BATCH_SIZE, DEFAULT_TIMEOUT_S
from .errors import Timeout, Unavailable, from_triton
from .operations import Filters, Operation, Operations
from .results import CollectionInfo, Document, Embeddings, ModelStatistics, RerankResult, SearchResult, ServerInfo
from .wire import Call

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same methods and arguments, to be awaited.

    The documents of an `upsert` are an ordinary iterable, read in the event loop's thread.

        async with AsyncClient("localhost:8001") as client:
            for hit in await client.search("docs", "what does ColBERT keep?"):
                print(hit.score, hit.id, hit.text)
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._operations = Operations()
        self._address = address
        self._credentials = credentials

    @cached_property
    def _triton(self) -> InferenceServerClient:
        # Made at the first call: grpc.aio ties a channel to the event loop that runs then.
        return InferenceServerClient(self._address, creds=self._credentials, channel_args=CHANNEL_ARGUMENTS)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """`Client.close`, awaited."""
        await self._triton.close()

    async def search(
        self,
        collection: str,
        query: str | ArrayLike,
        *,
        top_k: int = DEFAULT_TOP_K,
        mode: str = DEFAULT_MODE,
        exact: bool = True,
        n_probe: int | None = None,
        n_candidates: int | None = None,
        maxsim_weight: float | None = None,
        filters: Filters | None = None,
        with_text: bool = True,
        with_metadata: bool = True,
        min_version: int | None = None,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """`Client.search`, awaited."""
        operation = self._operations.search(
            collection,
            query,
            top_k=top_k,
            mode=mode,
            exact=exact,
            n_probe=n_probe,
            n_candidates=n_candidates,
            maxsim_weight=maxsim_weight,
            filters=filters,
            with_text=with_text,
            with_metadata=with_metadata,
            min_version=min_version,
        )
        return await self._run(operation, timeout_s)

    async def search_batch(
        self,
        collection: str,
        queries: Sequence[str | ArrayLike],
        *,
        top_k: int = DEFAULT_TOP_K,
        mode: str = DEFAULT_MODE,
        exact: bool = True,
        n_probe: int | None = None,
        n_candidates: int | None = None,
        maxsim_weight: float | None = None,
        filters: Filters | None = None,
        with_text: bool = True,
        with_metadata: bool = True,
        min_version: int | None = None,
        timeout_s: float | None = None,
    ) -> list[SearchResult]:
        """`Client.search_batch`, awaited."""
        operation = self._operations.search_batch(
            collection,
            queries,
            top_k=top_k,
            mode=mode,
            exact=exact,
            n_probe=n_probe,
            n_candidates=n_candidates,
            maxsim_weight=maxsim_weight,
            filters=filters,
            with_text=with_text,
            with_metadata=with_metadata,
            min_version=min_version,
        )
        return await self._run(operation, timeout_s)

    async def rerank(
        self,
        query: str,
        documents: Sequence[str] | None = None,
        *,
        collection: str | None = None,
        ids: Sequence[str] | None = None,
        filters: Filters | None = None,
        top_n: int | None = None,
        timeout_s: float | None = None,
    ) -> list[RerankResult]:
        """`Client.rerank`, awaited."""
        operation = self._operations.rerank(
            query, documents, collection=collection, ids=ids, filters=filters, top_n=top_n
        )
        return await self._run(operation, timeout_s)

    @overload
    async def encode_query(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too
        self, texts: str, *, batch_size: int = ..., show_progress_bar: bool = ..., timeout_s: float | None = ...
    ) -> Embeddings: ...
    @overload
    async def encode_query(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = ...,
        show_progress_bar: bool = ...,
        timeout_s: float | None = ...,
    ) -> list[Embeddings]: ...
    async def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool = False,
        timeout_s: float | None = None,
    ) -> Embeddings | list[Embeddings]:
        """`Client.encode_query`, awaited."""
        operation = self._operations.encode_query(texts, batch_size=batch_size, show_progress_bar=show_progress_bar)
        return await self._run(operation, timeout_s)

    @overload
    async def encode_document(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too
        self, texts: str, *, batch_size: int = ..., show_progress_bar: bool = ..., timeout_s: float | None = ...
    ) -> Embeddings: ...
    @overload
    async def encode_document(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = ...,
        show_progress_bar: bool = ...,
        timeout_s: float | None = ...,
    ) -> list[Embeddings]: ...
    async def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool = False,
        timeout_s: float | None = None,
    ) -> Embeddings | list[Embeddings]:
        """`Client.encode_document`, awaited."""
        operation = self._operations.encode_document(texts, batch_size=batch_size, show_progress_bar=show_progress_bar)
        return await self._run(operation, timeout_s)

    async def upsert(
        self,
        collection: str,
        documents: Iterable[Document | Mapping[str, Any]],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool = False,
        codec: str | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """`Client.upsert`, awaited."""
        operation = self._operations.upsert(
            collection, documents, batch_size=batch_size, show_progress_bar=show_progress_bar, codec=codec
        )
        return await self._run(operation, timeout_s)

    async def delete(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        *,
        filters: Filters | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """`Client.delete`, awaited."""
        return await self._run(self._operations.delete(collection, ids, filters), timeout_s)

    async def get(
        self, collection: str, ids: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Document | None]:
        """`Client.get`, awaited."""
        return await self._run(self._operations.get(collection, ids), timeout_s)

    async def count(self, collection: str, *, filters: Filters | None = None, timeout_s: float | None = None) -> int:
        """`Client.count`, awaited."""
        return await self._run(self._operations.count(collection, filters), timeout_s)

    async def scroll(
        self,
        collection: str,
        *,
        after: str | None = None,
        limit: int = DEFAULT_PAGE,
        filters: Filters | None = None,
        timeout_s: float | None = None,
    ) -> list[Document]:
        """`Client.scroll`, awaited."""
        operation = self._operations.scroll(collection, after=after, limit=limit, filters=filters)
        return await self._run(operation, timeout_s)

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
            fields=fields or {},
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

    async def _run(self, operation: Operation[T], timeout_s: float | None) -> T:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            call = next(operation)
            while True:
                call = operation.send(await self._send(call, timeout_s))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()

    async def _send(self, call: Call[Any], timeout_s: float) -> Any:
        method = getattr(self._triton, call.method)
        try:
            return await method(**call.arguments_within(timeout_s), headers=self._headers, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise from_triton(error, timeout_s) from error
