"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, overload

import grpc
from numpy.typing import ArrayLike
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tridex.protocol.limits import DEFAULT_PAGE, DEFAULT_TOP_K
from tridex.protocol.parameters import DEFAULT_MODE

from .channel import CHANNEL_ARGUMENTS
from .errors import Timeout, Unavailable, from_triton
from .operations import Filters, Operation, Operations
from .results import CollectionInfo, Document, Embeddings, ModelStatistics, RerankResult, SearchResult, ServerInfo
from .wire import Call

T = TypeVar("T")

DEFAULT_ADDRESS = "localhost:8001"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_BATCH_SIZE = 16


class Client:
    """A connection to a Triton server that serves Tridex's models. Threads may share it.

    `timeout_s` bounds each request, its retries included; every method takes one of its own for that call, and a
    method that sends several requests allows it to each. `headers` go with every request; with `credentials` the
    channel is encrypted. Every error is a TridexError (see `tridex.client.errors`).

        with Client("localhost:8001") as client:
            client.upsert("docs", [Document("1", "Late interaction keeps every token.")])
            for hit in client.search("docs", "what does ColBERT keep?"):
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
        self._triton = InferenceServerClient(address, creds=credentials, channel_args=CHANNEL_ARGUMENTS)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the client cannot be used afterwards."""
        self._triton.close()

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
        is one write; after an error the batches before it are in the store, and sending everything again is harmless.
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
        """A page of documents in the order of ids: the first `limit` after id `after` that match `filters`.

        The id of a page's last document is the `after` of the next. Pages are read one by one: a document that is there
        all the while comes once, whatever is written meanwhile.
        """
        operation = self._operations.scroll(collection, after=after, limit=limit, filters=filters)
        return self._run(operation, timeout_s)

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
            fields=fields or {},
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

    def _run(self, operation: Operation[T], timeout_s: float | None) -> T:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            call = next(operation)
            while True:
                call = operation.send(self._send(call, timeout_s))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()

    def _send(self, call: Call[Any], timeout_s: float) -> Any:
        method = getattr(self._triton, call.method)
        try:
            return method(**call.arguments_within(timeout_s), headers=self._headers, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise from_triton(error, timeout_s) from error
