"""The client of a Tridex server. Of this module `make generate` makes `tridex.client._sync.client`."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import grpc
from numpy.typing import ArrayLike

from tridex.client import calls, checks
from tridex.client.batches import DEFAULT_BATCH_SIZE, batches
from tridex.client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, headers_of
from tridex.client.errors import ClientError, InvalidArgument, Timeout, Unavailable
from tridex.client.results import (
    CollectionInfo,
    DeleteResult,
    Document,
    Embeddings,
    FacetValue,
    Hit,
    ModelStatistics,
    RerankResult,
    SearchResult,
    ServerInfo,
    UpdateResult,
    UpsertResult,
)
from tridex.client.retries import Attempts
from tridex.client.search_options import Filters, SearchOptions, search_parameters
from tridex.client.tls import TLS
from tridex.client.tracing import RequestSpan
from tridex.client.transport import AsyncTransport
from tridex.client.wire import Call
from tridex.common.terminal.progress import expected_count, progress
from tridex.protocol import models, parameters
from tridex.protocol.limits import (
    DEFAULT_FACET_VALUES,
    DEFAULT_PAGE,
    MAX_BATCH,
    MAX_EXPLAINED,
    MAX_FACET_VALUES,
    MAX_HITS,
    MAX_PAGE,
)
from tridex.protocol.parameters import CodecName, IfExists, IfExistsName, LongDocumentsName
from tridex.protocol.tensors import Ensemble

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")

_POSITION = re.compile(r"documents\[([0-9]+)\]")

_EMBEDDED_BATCH = 8
"""Documents of one request that asks for embeddings: of 8,192 tokens each, of 256 dimensions, an answer holds them."""


class AsyncClient:
    """A connection to a Triton server that serves Tridex's models. Tasks and threads may share it.

        async with AsyncClient("localhost:8001") as client:
            await client.upsert("docs", [Document("1", "Late interaction keeps every token.")])
            for hit in await client.search("docs", "what does ColBERT keep?"):
                print(hit.score, hit.id, hit.text)

    Every method takes a `timeout_s` of its own, for that call; a method that sends several requests allows it to each.
    Every error is a TridexError (see `tridex.client.errors`), except what the caller's own iterators raise.

    Args:
        address: HOST:PORT of the server's gRPC endpoint, or HOST alone for port 8001; http://
            or https:// may stand before it.
        timeout_s: Seconds that each request may take, its retries included. More than a day is a day.
        headers: Sent with every request, their names in lower case.
        api_key: Of a server that asks for keys.
        tls: Encrypt the channel: True, or which certificates. An address of https:// or grpcs:// stands for True.
        credentials: gRPC's own, in place of `tls`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        tls: TLS | bool = False,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._headers = headers_of(headers, api_key)
        self._transport = AsyncTransport(address, tls, credentials)
        self._timeout_s = checks.timeout(timeout_s)
        self._versions: dict[str, int] = {}
        """Of this client's last write to each collection."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; the client cannot be used afterwards."""
        await self._transport.close()

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """This client with further headers, on the same connection: `client.with_headers({...}).search(...)`.

        Closing either closes both.
        """
        other = copy.copy(self)
        other._headers = {**self._headers, **headers_of(headers)}
        return other

    async def search(
        self,
        collection: str,
        query: str | ArrayLike,
        *,
        timeout_s: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResult:
        """The documents that score best for a query.

        Args:
            collection: A collection or an alias.
            query: Text, or token embeddings [tokens, dim].
            timeout_s: Seconds allowed; the client's own where left out.
            **options: `top_k`, `mode`, `exact`, `n_probe`, `n_candidates`, `maxsim_weight`, `offset`, `min_score`,
                `normalize`, `filters`, `with_text`, `with_metadata`, `explain`, `explain_matrix` and `min_version`, as
                `SearchOptions` describes them.
        """
        allowed_s = self._allowed_s(timeout_s)
        (result,) = await self._search(collection, [checks.query("query", query)], options, allowed_s)
        return result

    async def search_batch(
        self,
        collection: str,
        queries: Sequence[str | ArrayLike],
        *,
        timeout_s: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[SearchResult]:
        """`search` for several queries, all texts or all embeddings of one dimension; one result per query."""
        allowed_s = self._allowed_s(timeout_s)
        encoded = [checks.query(f"queries[{i}]", query) for i, query in enumerate(checks.stream("queries", queries))]
        checks.alike("queries", encoded)
        return await self._search(collection, encoded, options, allowed_s)

    async def explain(
        self,
        collection: str,
        query: str | ArrayLike,
        ids: Sequence[str],
        *,
        matrix: bool = False,
        timeout_s: float | None = None,
    ) -> list[Hit | None]:
        """How well documents match a query and by which words, whether or not a search would find them.

        Args:
            collection: A collection or an alias.
            query: As for `search`.
            ids: The documents.
            matrix: Whether explanations hold every similarity, not only the largest ones.
            timeout_s: Seconds allowed for each request; the client's own where left out.

        Returns:
            The documents as hits with their explanation, in the order of `ids`; None for an id that the collection does
            not hold, or whose text has no token that scores.
        """
        allowed_s = self._allowed_s(timeout_s)
        encoded = checks.query("query", query)
        keys = list(checks.stream("ids", ids))
        options: SearchOptions = {"explain_matrix": checks.flag("matrix", matrix)}
        found: dict[str, Hit] = {}
        for batch in batches(dict.fromkeys(checks.ids(keys)), MAX_EXPLAINED):
            these: SearchOptions = {**options, "top_k": len(batch), "explain": len(batch)}
            (result,) = await self._search(collection, [encoded], these, allowed_s, batch)
            found.update((hit.id, hit) for hit in result)
        return [found.get(key) for key in keys]

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
        """Scores `documents`, or the stored documents `ids` of `collection`; the best `top_n`, or all, best first.

        Documents given as texts are encoded anew. Ids that the collection does not hold are left out, as are those that
        do not match `filters`.
        """
        allowed_s = self._allowed_s(timeout_s)
        encoded = checks.text("query", query)
        top_n = None if top_n is None else checks.integer("top_n", top_n, 1)
        if documents is not None and collection is None and ids is None and filters is None:
            texts = checks.texts("documents", documents)
            results = await self._send(calls.rerank(encoded, texts), allowed_s) if texts else []
        elif documents is None and collection is not None and ids is not None:
            results = await self._rerank_ids(encoded, collection, ids, filters, allowed_s)
        else:
            raise InvalidArgument("rerank: expected either documents, or collection and ids, perhaps with filters")
        return sorted(results, key=lambda result: -result.relevance_score)[:top_n]

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
        """Token embeddings as queries get them: float32 [tokens, dim], L2-normalised; a list for several texts."""
        return await self._encode(models.ENCODE_QUERY, "queries", texts, batch_size, show_progress_bar, timeout_s)

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
        """Token embeddings as documents get them: float32 [tokens, dim], L2-normalised; a list for several texts."""
        return await self._encode(models.ENCODE_DOCUMENT, "documents", texts, batch_size, show_progress_bar, timeout_s)

    async def upsert(
        self,
        collection: str,
        documents: Iterable[Document | Mapping[str, Any]],
        *,
        if_exists: IfExistsName = "overwrite",
        batch_size: int = DEFAULT_BATCH_SIZE,
        show_progress_bar: bool = False,
        codec: CodecName | None = None,
        timeout_s: float | None = None,
    ) -> UpsertResult:
        """Writes documents.

        Each batch is one transaction; after an error the batches before it are in the store (`ClientError.written`
        documents), and sending everything again is harmless.

        Args:
            collection: A collection or an alias; a name that does not exist yet becomes a collection, which infers its
                fields from its first documents.
            documents: May be a generator of any length: it is read in the caller's thread, one batch ahead of the
                writes, never whole.
            if_exists: What becomes of documents whose ids are there already: they replace the stored ones
                ("overwrite"), are left out and not encoded ("skip"), or have the batch refused ("fail").
            batch_size: Documents per request.
            show_progress_bar: On standard error; with a total where `documents` has a length, or a length hint.
            codec: How a collection that this call creates stores token embeddings; the server's default where left
                out.
            timeout_s: Seconds allowed for each request; the client's own where left out.

        Returns:
            How many documents were added, replaced and skipped, and the store version that holds them. Without any
            document nothing is written, and the version is that of this client's last write, or 0.

        Raises:
            AlreadyExists: With `if_exists="fail"`, for an id that is there.
        """
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH)
        checks.name("codec", codec)
        checks.one_of("if_exists", if_exists, [choice.value for choice in IfExists])
        sent = None if if_exists == "overwrite" else if_exists
        show_progress_bar = checks.flag("show_progress_bar", show_progress_bar)
        encoded = checks.documents(documents)
        written = added = replaced = 0
        try:
            with progress("documents", expected_count(documents), show_progress_bar) as advance:
                for batch in batches(encoded, batch_size):
                    checks.distinct((document[0] for document in batch), written)
                    change = await self._upsert_batch(collection, batch, sent, codec, written, allowed_s)
                    written, added, replaced = written + len(batch), added + change.added, replaced + change.replaced
                    advance(len(batch))
        except ClientError as error:
            error.written = written
            raise
        return UpsertResult(self._versions.get(collection, 0), added, replaced, written - added - replaced)

    async def delete(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        *,
        filters: Filters | None = None,
        timeout_s: float | None = None,
    ) -> DeleteResult:
        """Removes the documents `ids`, or those that match `filters`; ids that are not there are no error.

        Returns:
            How many documents there were, and the store version without them. For no ids at all see `upsert`.
        """
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        conditions = checks.filters_json("filters", filters)
        if (ids is None) == (conditions is None):
            # Empty filters select everything elsewhere; they must not delete everything here.
            raise InvalidArgument("delete: expected either ids, or filters with a condition; clear for all")
        deleted = 0
        if conditions is not None:
            change = await self._write(collection, calls.delete_matching(collection, conditions), allowed_s)
            deleted = change.deleted
        for batch in batches(dict.fromkeys(checks.ids([] if ids is None else ids)), MAX_BATCH):
            deleted += (await self._write(collection, calls.delete(collection, batch), allowed_s)).deleted
        return DeleteResult(self._versions.get(collection, 0), deleted)

    async def clear(self, collection: str, *, timeout_s: float | None = None) -> DeleteResult:
        """Removes every document in one transaction; the collection stays, with its fields."""
        allowed_s = self._allowed_s(timeout_s)
        change = await self._write(collection, calls.clear(checks.collection_name(collection)), allowed_s)
        return DeleteResult(change.version, change.deleted)

    async def update_metadata(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        *,
        metadata: Mapping[str, Any],
        filters: Filters | None = None,
        timeout_s: float | None = None,
    ) -> UpdateResult:
        """Changes the metadata of the documents `ids`, or of those that match `filters`; nothing is encoded.

        Args:
            collection: A collection or an alias.
            ids: Ids that are not there are left out; 64 ids are one transaction.
            metadata: Keys that get another value, or go where it is None. Other keys stay.
            filters: In place of ids; all that match are one transaction.
            timeout_s: Seconds allowed for each request; the client's own where left out.

        Returns:
            How many documents there were, and the store version with their metadata.
        """
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        conditions = checks.filters_json("filters", filters)
        if (ids is None) == (conditions is None):
            raise InvalidArgument("update_metadata: expected either ids, or filters with a condition")
        encoded = checks.metadata_json("metadata", metadata)
        updated = 0
        if conditions is not None:
            call = calls.update_matching(collection, conditions, encoded)
            updated = (await self._write(collection, call, allowed_s)).replaced
        for batch in batches(dict.fromkeys(checks.ids([] if ids is None else ids)), MAX_BATCH):
            call = calls.update_metadata(collection, batch, encoded)
            updated += (await self._write(collection, call, allowed_s)).replaced
        return UpdateResult(self._versions.get(collection, 0), updated)

    async def get(
        self, collection: str, ids: Sequence[str], *, with_embeddings: bool = False, timeout_s: float | None = None
    ) -> list[Document | None]:
        """The documents `ids`, in their order, None for each id that the collection does not hold.

        `with_embeddings` brings their token embeddings, too (`Document.embeddings`).
        """
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        with_embeddings = checks.flag("with_embeddings", with_embeddings)
        documents: list[Document | None] = []
        for batch in batches(checks.ids(ids), _EMBEDDED_BATCH if with_embeddings else MAX_BATCH):
            documents += await self._send(calls.get(collection, batch, with_embeddings), allowed_s)
        return documents

    async def facet(
        self,
        collection: str,
        field: str,
        *,
        filters: Filters | None = None,
        limit: int = DEFAULT_FACET_VALUES,
        timeout_s: float | None = None,
    ) -> list[FacetValue]:
        """The most frequent values of a metadata field, at most `limit`, in all documents or in those that match.

        Ties are in the order of the values. A list counts once for each of its items; documents without the field
        count nowhere.
        """
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        checks.field_name("field", field)
        limit = checks.integer("limit", limit, 1, MAX_FACET_VALUES)
        conditions = checks.filters_json("filters", filters)
        return await self._send(calls.facet(collection, field, conditions, limit), allowed_s)

    async def min_max(
        self, collection: str, field: str, *, filters: Filters | None = None, timeout_s: float | None = None
    ) -> tuple[Any, Any] | None:
        """The smallest and the largest value of a metadata field that is int, float or datetime (ISO 8601).

        None where no document has the field, of all or of those that match `filters`.
        """
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        checks.field_name("field", field)
        conditions = checks.filters_json("filters", filters)
        return await self._send(calls.min_max(collection, field, conditions), allowed_s)

    async def count(self, collection: str, *, filters: Filters | None = None, timeout_s: float | None = None) -> int:
        """How many documents the collection holds, or how many match `filters`."""
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        return await self._send(calls.count(collection, checks.filters_json("filters", filters)), allowed_s)

    async def scroll(
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
        `limit` though more follow: an empty page is the end. A document that exists throughout comes exactly once,
        whatever is written between two pages.
        """
        allowed_s = self._allowed_s(timeout_s)
        checks.collection_name(collection)
        start = None if after is None else checks.document_id("after", after)
        limit = checks.integer("limit", limit, 1, MAX_PAGE)
        conditions = checks.filters_json("filters", filters)
        return await self._send(calls.scroll(collection, start, limit, conditions), allowed_s)

    async def collections(self, *, timeout_s: float | None = None) -> list[CollectionInfo]:
        """Every collection of the store."""
        return await self._send(calls.collections(), self._allowed_s(timeout_s))

    async def create_collection(
        self,
        collection: str,
        *,
        codec: CodecName | None = None,
        fields: Mapping[str, str] | None = None,
        document_length: int | None = None,
        long_documents: LongDocumentsName | None = None,
        pooling_factor: int | None = None,
        timeout_s: float | None = None,
    ) -> CollectionInfo:
        """Makes an empty collection.

        Args:
            collection: Its name.
            codec: How token embeddings are stored; the server's default where left out.
            fields: The metadata fields that filters can ask for, by name, each "str", "int", "float", "bool",
                "datetime" (ISO 8601) or "list[str]". Documents need not have them, and may have others; a value must be
                of the type. Where left out they are inferred from the first documents; {} is none at all.
            document_length: Most tokens that the encoder reads at once; the checkpoint's own where left out.
            long_documents: Longer documents are read in overlapping "windows", which are scored as one document and
                the default, or cut ("truncate").
            pooling_factor: Keep one token embedding, the mean of similar ones, for this many.
            timeout_s: Seconds allowed for each request; the client's own where left out.

        Raises:
            AlreadyExists: The name is taken, perhaps by an alias.
        """
        allowed_s = self._allowed_s(timeout_s)
        call = calls.create_collection(
            checks.collection_name(collection),
            codec=checks.name("codec", codec),
            fields=None if fields is None else checks.fields_json(fields),
            document_length=None if document_length is None else checks.integer("document_length", document_length, 1),
            long_documents=checks.name("long_documents", long_documents),
            pooling_factor=None if pooling_factor is None else checks.integer("pooling_factor", pooling_factor, 1),
        )
        await self._send(call, allowed_s)
        return await self._send(calls.collection(collection), allowed_s)

    async def add_fields(
        self, collection: str, fields: Mapping[str, str], *, timeout_s: float | None = None
    ) -> CollectionInfo:
        """Makes fields of metadata that is stored, or gives fields another type; nothing is encoded.

        Args:
            collection: A collection or an alias.
            fields: Types by name, as for `create_collection`.
            timeout_s: Seconds allowed for each request; the client's own where left out.

        Raises:
            InvalidArgument: A stored value does not fit; the message names its document, and nothing is changed.
        """
        allowed_s = self._allowed_s(timeout_s)
        return await self._change_fields(collection, checks.fields_json(fields), allowed_s)

    async def drop_fields(
        self, collection: str, fields: Sequence[str], *, timeout_s: float | None = None
    ) -> CollectionInfo:
        """Lets fields go: filters can no longer ask for them, and documents may hold anything there. Metadata stays."""
        allowed_s = self._allowed_s(timeout_s)
        return await self._change_fields(collection, checks.dropped_json(fields), allowed_s)

    async def describe_collection(self, collection: str, *, timeout_s: float | None = None) -> CollectionInfo:
        """One collection: what was declared, and how much it holds."""
        allowed_s = self._allowed_s(timeout_s)
        return await self._send(calls.collection(checks.collection_name(collection)), allowed_s)

    async def drop_collection(self, collection: str, *, timeout_s: float | None = None) -> None:
        """Removes a collection and its documents. Refused while an alias leads to it."""
        allowed_s = self._allowed_s(timeout_s)
        await self._send(calls.drop_collection(checks.collection_name(collection)), allowed_s)

    async def compact(self, collection: str, *, timeout_s: float | None = None) -> int:
        """Rewrites the collection's small and half deleted files as large ones; the store version that this makes.

        Searches go on, writes wait. Disk space comes back about a minute later. It may take longer than the client's
        `timeout_s`; the server finishes what it began.
        """
        allowed_s = self._allowed_s(timeout_s)
        await self._write(collection, calls.compact(checks.collection_name(collection)), allowed_s)
        return self._versions[collection]

    async def set_alias(self, alias: str, collection: str, *, timeout_s: float | None = None) -> None:
        """Makes `alias` lead to `collection`, wherever it led before: searches see the one or the other, never neither.

        An alias can stand wherever a collection is named. Setting it to the old collection again rolls back.
        """
        allowed_s = self._allowed_s(timeout_s)
        call = calls.set_alias(checks.collection_name(alias, "alias"), checks.collection_name(collection))
        # Through the alias, too, this client sees what it wrote to the collection.
        await self._write(alias, call, allowed_s)

    async def drop_alias(self, alias: str, *, timeout_s: float | None = None) -> None:
        """Removes an alias; the collection stays."""
        allowed_s = self._allowed_s(timeout_s)
        await self._send(calls.drop_alias(checks.collection_name(alias, "alias")), allowed_s)

    async def aliases(self, *, timeout_s: float | None = None) -> dict[str, str]:
        """Every alias, and the collection that it leads to."""
        return await self._send(calls.aliases(), self._allowed_s(timeout_s))

    async def is_ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the server can be reached and all of its models are ready."""
        allowed_s = self._allowed_s(timeout_s)
        try:
            return await self._send(calls.is_ready(), allowed_s)
        except (Timeout, Unavailable):
            return False

    async def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """The Triton server's name, version and extensions, and the manifest of the served encoder.

        Raises:
            PermissionDenied: The server asks for API keys: what Triton server says of itself is closed then.
        """
        allowed_s = self._allowed_s(timeout_s)
        name, version, extensions = await self._send(calls.server_metadata(), allowed_s)
        return ServerInfo(name, version, extensions, await self._send(calls.encoder(), allowed_s))

    async def encoder(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """The manifest of the served encoder."""
        return await self._send(calls.encoder(), self._allowed_s(timeout_s))

    async def statistics(self, *, timeout_s: float | None = None) -> list[ModelStatistics]:
        """What every served model did since it was loaded: where the time of a search goes, stage by stage.

        Raises:
            PermissionDenied: The server asks for API keys: its metrics have the same figures.
        """
        return await self._send(calls.statistics(), self._allowed_s(timeout_s))

    async def _search(
        self,
        collection: str,
        queries: Sequence[bytes | Embeddings],
        options: SearchOptions,
        allowed_s: float,
        candidates: Sequence[bytes] | None = None,
    ) -> list[SearchResult]:
        checks.collection_name(collection)
        sent = search_parameters(options)
        if parameters.MODE in sent and not all(isinstance(query, bytes) for query in queries):
            mode = sent[parameters.MODE]
            raise InvalidArgument(f"mode: {mode!r} expects queries that are text, got token embeddings")
        if parameters.MIN_VERSION not in sent and collection in self._versions:
            sent[parameters.LAST_WRITE] = self._versions[collection]
        explained = int(sent.get(parameters.EXPLAIN, 0))
        ranked = int(sent[parameters.TOP_K]) + int(sent.get(parameters.OFFSET, 0))
        fitting = min(MAX_BATCH, MAX_HITS // ranked, MAX_EXPLAINED // max(1, explained))
        results: list[SearchResult] = []
        for batch in batches(queries, max(1, fitting)):
            results += await self._send(calls.search(collection, batch, sent, candidates), allowed_s)
        return results

    async def _rerank_ids(
        self, query: bytes, collection: str, ids: Sequence[str], filters: Filters | None, allowed_s: float
    ) -> list[RerankResult]:
        ids = list(checks.stream("ids", ids))
        # An id given twice is scored once and answered twice.
        candidates = list(dict.fromkeys(checks.ids(ids)))
        if not candidates:
            return []
        options: SearchOptions = {
            "top_k": len(candidates),
            "filters": filters,
            "with_text": False,
            "with_metadata": False,
        }
        (result,) = await self._search(collection, [query], options, allowed_s, candidates)
        scores = {hit.id: hit.score for hit in result}
        return [RerankResult(index, scores[key], key) for index, key in enumerate(ids) if key in scores]

    async def _encode(
        self,
        model: Ensemble,
        items: str,
        texts: str | Sequence[str],
        batch_size: int,
        show_progress_bar: bool,
        timeout_s: float | None,
    ) -> Embeddings | list[Embeddings]:
        allowed_s = self._allowed_s(timeout_s)
        batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH)
        show_progress_bar = checks.flag("show_progress_bar", show_progress_bar)
        if isinstance(texts, str):
            (embeddings,) = await self._send(calls.encode(model, [checks.text("texts", texts)]), allowed_s)
            return embeddings
        encoded = checks.texts("texts", texts)
        several: list[Embeddings] = []
        with progress(items, len(encoded), show_progress_bar) as advance:
            for batch in batches(encoded, batch_size):
                several += await self._send(calls.encode(model, batch), allowed_s)
                advance(len(batch))
        return several

    async def _upsert_batch(
        self,
        collection: str,
        batch: Sequence[tuple[bytes, bytes, bytes]],
        if_exists: str | None,
        codec: CodecName | None,
        first: int,
        allowed_s: float,
    ) -> calls.Change:
        try:
            return await self._write(collection, calls.upsert(collection, batch, if_exists, codec), allowed_s)
        except InvalidArgument as error:
            # The server counts from the beginning of the batch.
            error.args = (_POSITION.sub(lambda found: f"documents[{first + int(found[1])}]", str(error)),)
            raise

    async def _change_fields(self, collection: str, changes: str, allowed_s: float) -> CollectionInfo:
        call = calls.change_fields(checks.collection_name(collection), changes)
        await self._write(collection, call, allowed_s)
        return await self._send(calls.collection(collection), allowed_s)

    async def _write(self, collection: str, call: Call[calls.Change], allowed_s: float) -> calls.Change:
        """Sends a write, and remembers its version under that name, which may be an alias."""
        change = await self._send(call, allowed_s)
        # The larger one, as threads that share a client may learn of their writes out of order.
        self._versions[collection] = max(change.version, self._versions.get(collection, 0))
        return change

    def _allowed_s(self, timeout_s: float | None) -> float:
        """Seconds for each request of a method that begins now."""
        self._transport.check_open()
        return self._timeout_s if timeout_s is None else checks.timeout(timeout_s)

    async def _send(self, call: Call[T], allowed_s: float) -> T:
        """The call's result, after as many attempts as it takes."""
        attempts = Attempts(allowed_s, retried=call.retried)
        with RequestSpan(call, self._headers) as span:
            while True:
                self._transport.check_open()
                try:
                    answer = await self._transport.send(call, attempts.left_s(), span.headers)
                except Exception as error:
                    failure = error
                else:
                    return span.answered(call.result(answer))
                self._transport.check_open()
                await asyncio.sleep(attempts.pause_s(failure))
