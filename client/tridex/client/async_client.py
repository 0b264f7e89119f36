"""The asyncio client: `Client`, awaited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from numpy.typing import ArrayLike

from tridex.protocol.limits import DEFAULT_PAGE, DEFAULT_TOP_K
from tridex.protocol.parameters import DEFAULT_MODE

from .administration import AsyncAdministration
from .client import DEFAULT_BATCH_SIZE
from .operations import Filters
from .results import Document, Embeddings, RerankResult, SearchResult


class AsyncClient(AsyncAdministration):
    """`Client` for asyncio: the same methods and arguments, to be awaited.

    The documents of an `upsert` are an ordinary iterable, read in the event loop's thread. On each event loop the
    client opens a channel of its own; `close` closes it for all of them.

        async with AsyncClient("localhost:8001") as client:
            for hit in await client.search("docs", "what does ColBERT keep?"):
                print(hit.score, hit.id, hit.text)
    """

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
