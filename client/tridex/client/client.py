"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from numpy.typing import ArrayLike

from tridex.protocol.limits import DEFAULT_PAGE, DEFAULT_TOP_K
from tridex.protocol.parameters import DEFAULT_MODE

from .administration import Administration
from .operations import Filters
from .results import Document, Embeddings, RerankResult, SearchResult

DEFAULT_BATCH_SIZE = 16


class Client(Administration):
    """A connection to a Triton server that serves Tridex's models. Threads may share it.

    `address` is HOST:PORT of the server's gRPC endpoint, or HOST alone for port 8001. `timeout_s` bounds each request,
    its retries included; every method takes one of its own for that call, and a method that sends several requests
    allows it to each. More than a day is a day. `headers` go with every request, their names in lower case; with
    `credentials` the channel is encrypted. Every error is a TridexError (see `tridex.client.errors`), but for what the
    caller's own iterators raise.

        with Client("localhost:8001") as client:
            client.upsert("docs", [Document("1", "Late interaction keeps every token.")])
            for hit in client.search("docs", "what does ColBERT keep?"):
                print(hit.score, hit.id, hit.text)
    """

    def search(
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
        """The `top_k` documents that score best for `query`: text, or token embeddings [tokens, dim].

        `mode` says by which score: "maxsim"; "bm25", of the words; "rerank", the `n_candidates` best by BM25 ranked by
        MaxSim; "hybrid", both rankings to a depth of `n_candidates` fused by reciprocal rank or, given a
        `maxsim_weight` from 0 to 1, by the weighted sum of scores stretched to 0 to 1. All but "maxsim" take text only.

        `exact=False` lets MaxSim score only the `n_candidates` documents of each segment that look best by centroids,
        of which every query token probes `n_probe`: for collections too large to score every document of.

        The search sees at least store version `min_version`; left out, it sees this client's own last write to the
        collection, and 0 asks for no version at all.

        `filters` limits the search to documents whose metadata fulfils conditions on declared fields, written as in
        Haystack: {"field": "year", "operator": ">=", "value": 2020} with ==, !=, <, <=, >, >=, in and not in, joined by
        {"operator": "AND", "conditions": [...]}, OR and NOT. A missing field equals None and nothing else.
        """
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
        return self._run(operation, timeout_s)

    def search_batch(
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
        """`search` for several queries, all texts or all embeddings of one dimension; one result a query."""
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
        return self._run(operation, timeout_s)

    def rerank(
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
        """Scores `documents`, or the stored documents `ids` of `collection`; the best `top_n`, or all, best first.

        Documents given as texts are encoded anew. Ids that the collection does not hold are left out, as are those that
        do not match `filters`.
        """
        operation = self._operations.rerank(
            query, documents, collection=collection, ids=ids, filters=filters, top_n=top_n
        )
        return self._run(operation, timeout_s)

    @overload
    def encode_query(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too
        self, texts: str, *, batch_size: int = ..., show_progress_bar: bool = ..., timeout_s: float | None = ...
    ) -> Embeddings: ...
    @overload
    def encode_query(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = ...,
        show_progress_bar: bool = ...,
        timeout_s: float | None = ...,
    ) -> list[Embeddings]: ...
    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool = False,
        timeout_s: float | None = None,
    ) -> Embeddings | list[Embeddings]:
        """Token embeddings as queries get them: float32 [tokens, dim], L2-normalised; a list for several texts."""
        operation = self._operations.encode_query(texts, batch_size=batch_size, show_progress_bar=show_progress_bar)
        return self._run(operation, timeout_s)

    @overload
    def encode_document(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too
        self, texts: str, *, batch_size: int = ..., show_progress_bar: bool = ..., timeout_s: float | None = ...
    ) -> Embeddings: ...
    @overload
    def encode_document(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = ...,
        show_progress_bar: bool = ...,
        timeout_s: float | None = ...,
    ) -> list[Embeddings]: ...
    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool = False,
        timeout_s: float | None = None,
    ) -> Embeddings | list[Embeddings]:
        """Token embeddings as documents get them: float32 [tokens, dim], L2-normalised; a list for several texts."""
        operation = self._operations.encode_document(texts, batch_size=batch_size, show_progress_bar=show_progress_bar)
        return self._run(operation, timeout_s)

    def upsert(
        self,
        collection: str,
        documents: Iterable[Document | Mapping[str, Any]],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool = False,
        codec: str | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Writes documents, replacing those of the same id; the store version that holds them.

        `documents` may be a generator of any length: it is read one batch ahead of the writes, never whole. Each batch
        is one write; after an error the batches before it are in the store (`TridexError.written` documents), and
        sending everything again is harmless.
        `codec` is how a collection that this call creates stores token embeddings; the server's default where left out.
        Without any document nothing is written and the version of this client's last write, or 0, comes back.
        """
        operation = self._operations.upsert(
            collection, documents, batch_size=batch_size, show_progress_bar=show_progress_bar, codec=codec
        )
        return self._run(operation, timeout_s)

    def delete(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        *,
        filters: Filters | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Removes the documents `ids`, or those that match `filters`; the store version without them.

        See `upsert` for no ids at all.
        """
        return self._run(self._operations.delete(collection, ids, filters), timeout_s)

    def get(self, collection: str, ids: Sequence[str], *, timeout_s: float | None = None) -> list[Document | None]:
        """The documents `ids`, in their order, None where there is none."""
        return self._run(self._operations.get(collection, ids), timeout_s)

    def count(self, collection: str, *, filters: Filters | None = None, timeout_s: float | None = None) -> int:
        """How many documents the collection holds, or how many match `filters`."""
        return self._run(self._operations.count(collection, filters), timeout_s)

    def scroll(
        self,
        collection: str,
        *,
        after: str | None = None,
        limit: int = DEFAULT_PAGE,
        filters: Filters | None = None,
        timeout_s: float | None = None,
    ) -> list[Document]:
        """A page of documents in the order of ids: the first after id `after` that match `filters`, at most `limit`.

        The id of a page's last document is the `after` of the next. A page of long documents may hold fewer than
        `limit` though more follow: an empty page is the end. Pages are read one by one: a document that is there all
        the while comes once, whatever is written meanwhile.
        """
        operation = self._operations.scroll(collection, after=after, limit=limit, filters=filters)
        return self._run(operation, timeout_s)
