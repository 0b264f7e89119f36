"""What each method of a client does, without I/O: checks, batches, and which calls follow on which answers.

An operation is a generator. It yields calls, is sent tritonclient's answers and returns the method's result, so that
the sync and the async client differ only in how they run one. Arguments are checked before the first call; only the
documents of an upsert, which may be a stream, are checked batch by batch.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from numpy.typing import ArrayLike

from tridex.common.terminal.progress import progress
from tridex.protocol import models
from tridex.protocol.limits import MAX_BATCH, MAX_HITS, MAX_PAGE
from tridex.protocol.parameters import DEFAULT_MODE
from tridex.protocol.tensors import Ensemble

from . import calls, checks
from .errors import ClientError, InvalidArgument
from .results import (
    CollectionInfo,
    Document,
    Embeddings,
    ModelStatistics,
    RerankResult,
    SearchResult,
    ServerInfo,
)
from .wire import Call

T = TypeVar("T")
Operation: TypeAlias = Generator[Call[Any], Any, T]
Filters: TypeAlias = Mapping[str, Any]
"""Conditions on declared metadata fields, as Haystack writes them."""

_POSITION = re.compile(r"documents\[([0-9]+)\]")


class Operations:
    """The operations of one client, and what the client remembers: the version of its last write to each collection."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def search(self, collection: str, query: str | ArrayLike, **options: Any) -> Operation[SearchResult]:
        results = yield from self._search(collection, [checks.query("query", query)], **options)
        return results[0]

    def search_batch(
        self, collection: str, queries: Sequence[str | ArrayLike], **options: Any
    ) -> Operation[list[SearchResult]]:
        encoded = [checks.query(f"queries[{i}]", query) for i, query in enumerate(checks.stream("queries", queries))]
        checks.alike("queries", encoded)
        return (yield from self._search(collection, encoded, **options))

    def _search(
        self,
        collection: str,
        queries: Sequence[Any],
        *,
        top_k: int,
        with_text: bool = False,
        with_metadata: bool = False,
        min_version: int | None = None,
        filters: Filters | None = None,
        candidates: Sequence[bytes] | None = None,
        mode: str = DEFAULT_MODE,
        exact: bool = True,
        n_probe: int | None = None,
        n_candidates: int | None = None,
        maxsim_weight: float | None = None,
    ) -> Operation[list[SearchResult]]:
        checks.collection_name(collection)
        way = checks.search_mode(mode, exact, n_probe, n_candidates, maxsim_weight)
        if mode != DEFAULT_MODE and not all(isinstance(query, bytes) for query in queries):
            raise InvalidArgument(f"mode: {mode!r} expects queries that are text, got token embeddings")
        top_k = checks.integer("top_k", top_k, 1)
        with_text, with_metadata = checks.flag("with_text", with_text), checks.flag("with_metadata", with_metadata)
        last_write = self._versions.get(collection) if min_version is None else None
        if min_version is not None:
            min_version = checks.integer("min_version", min_version, 0)
        conditions = checks.filters_json(filters)
        results: list[SearchResult] = []
        for batch in _batches(queries, max(1, min(MAX_BATCH, MAX_HITS // top_k))):
            results += yield from calls.search(
                collection,
                batch,
                top_k=top_k,
                with_text=with_text,
                with_metadata=with_metadata,
                min_version=min_version,
                last_write=last_write,
                filters=conditions,
                mode=way,
                candidates=candidates,
            )
        return results

    def rerank(
        self,
        query: str,
        documents: Sequence[str] | None,
        *,
        collection: str | None,
        ids: Sequence[str] | None,
        filters: Filters | None,
        top_n: int | None,
    ) -> Operation[list[RerankResult]]:
        encoded = checks.text("query", query)
        top_n = None if top_n is None else checks.integer("top_n", top_n, 1)
        if documents is not None and collection is None and ids is None and filters is None:
            results = yield from _rerank_texts(encoded, documents)
        elif documents is None and collection is not None and ids is not None:
            results = yield from self._rerank_ids(encoded, collection, ids, filters)
        else:
            raise InvalidArgument("rerank: expected either documents, or collection and ids, perhaps with filters")
        return sorted(results, key=lambda result: -result.relevance_score)[:top_n]

    def _rerank_ids(
        self, query: bytes, collection: str, ids: Sequence[str], filters: Filters | None
    ) -> Operation[list[RerankResult]]:
        ids = checks.several("ids", ids)
        # An id given twice is scored once and answered twice.
        candidates = list(dict.fromkeys(_ids(ids)))
        if not candidates:
            return []
        (result,) = yield from self._search(
            collection, [query], top_k=len(candidates), filters=filters, candidates=candidates
        )
        scores = {hit.id: hit.score for hit in result}
        return [RerankResult(index, scores[id_], id_) for index, id_ in enumerate(ids) if id_ in scores]

    def encode_query(
        self, texts: str | Sequence[str], *, batch_size: int, show_progress_bar: bool
    ) -> Operation[Embeddings | list[Embeddings]]:
        return _encode(models.ENCODE_QUERY, "queries", texts, batch_size, show_progress_bar)

    def encode_document(
        self, texts: str | Sequence[str], *, batch_size: int, show_progress_bar: bool
    ) -> Operation[Embeddings | list[Embeddings]]:
        return _encode(models.ENCODE_DOCUMENT, "documents", texts, batch_size, show_progress_bar)

    def upsert(
        self,
        collection: str,
        documents: Iterable[Document | Mapping[str, Any]],
        *,
        batch_size: int,
        show_progress_bar: bool,
        codec: str | None,
    ) -> Operation[int]:
        checks.collection_name(collection)
        batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH)
        codec = checks.choice("codec", codec)
        show_progress_bar = checks.flag("show_progress_bar", show_progress_bar)
        total = len(documents) if isinstance(documents, Sequence) else None
        given = enumerate(checks.stream("documents", documents))
        encoded = (_document_bytes(f"documents[{i}]", document) for i, document in given)
        written = 0
        try:
            with progress("documents", total, show_progress_bar) as advance:
                for batch in _batches(encoded, batch_size):
                    checks.distinct("documents", (document[0] for document in batch), written)
                    self._wrote(collection, (yield from _upsert(collection, batch, codec, written)))
                    written += len(batch)
                    advance(len(batch))
        except ClientError as error:
            error.written = written
            raise
        return self._versions.get(collection, 0)

    def delete(self, collection: str, ids: Sequence[str] | None, filters: Filters | None) -> Operation[int]:
        checks.collection_name(collection)
        conditions = checks.filters_json(filters)
        if (ids is None) == (conditions is None):
            # Empty filters select everything elsewhere; that is no way to say "delete everything".
            raise InvalidArgument("delete: expected either ids, or filters with a condition; drop_collection for all")
        if conditions is not None:
            self._wrote(collection, (yield from calls.delete_matching(collection, conditions)))
        for batch in _batches(dict.fromkeys(_ids([] if ids is None else ids)), MAX_BATCH):
            self._wrote(collection, (yield from calls.delete(collection, batch)))
        return self._versions.get(collection, 0)

    def get(self, collection: str, ids: Sequence[str]) -> Operation[list[Document | None]]:
        checks.collection_name(collection)
        documents: list[Document | None] = []
        for batch in _batches(_ids(ids), MAX_BATCH):
            documents += yield from calls.get(collection, batch)
        return documents

    def scroll(
        self, collection: str, *, after: str | None, limit: int, filters: Filters | None
    ) -> Operation[list[Document]]:
        checks.collection_name(collection)
        start = None if after is None else checks.document_id("after", after)
        limit = checks.integer("limit", limit, 1, MAX_PAGE)
        return (yield from calls.scroll(collection, start, limit, checks.filters_json(filters)))

    def count(self, collection: str, filters: Filters | None) -> Operation[int]:
        return (yield from calls.count(checks.collection_name(collection), checks.filters_json(filters)))

    def collections(self) -> Operation[list[CollectionInfo]]:
        return (yield from calls.collections())

    def create_collection(
        self,
        collection: str,
        *,
        codec: str | None,
        fields: Mapping[str, str] | None,
        document_length: int | None,
        long_documents: str | None,
        pooling_factor: int | None,
    ) -> Operation[CollectionInfo]:
        checks.collection_name(collection)
        yield from calls.create_collection(
            collection,
            codec=checks.choice("codec", codec),
            fields=checks.fields_json({} if fields is None else fields),
            document_length=None if document_length is None else checks.integer("document_length", document_length, 1),
            long_documents=checks.choice("long_documents", long_documents),
            pooling_factor=None if pooling_factor is None else checks.integer("pooling_factor", pooling_factor, 1),
        )
        return (yield from calls.collection(collection))

    def describe_collection(self, collection: str) -> Operation[CollectionInfo]:
        return (yield from calls.collection(checks.collection_name(collection)))

    def drop_collection(self, collection: str) -> Operation[None]:
        yield from calls.drop_collection(checks.collection_name(collection))

    def compact(self, collection: str) -> Operation[int]:
        self._wrote(collection, (yield from calls.compact(checks.collection_name(collection))))
        return self._versions[collection]

    def set_alias(self, alias: str, collection: str) -> Operation[None]:
        call = calls.set_alias(checks.collection_name(alias, "alias"), checks.collection_name(collection))
        # What was written to the collection before is seen through the alias.
        self._wrote(alias, (yield from call))

    def drop_alias(self, alias: str) -> Operation[None]:
        yield from calls.drop_alias(checks.collection_name(alias, "alias"))

    def aliases(self) -> Operation[dict[str, str]]:
        return (yield from calls.aliases())

    def is_ready(self) -> Operation[bool]:
        return (yield from calls.is_ready())

    def server_info(self) -> Operation[ServerInfo]:
        name, version, extensions = yield from calls.server_metadata()
        return ServerInfo(name, version, extensions, (yield from calls.encoder()))

    def statistics(self) -> Operation[list[ModelStatistics]]:
        return (yield from calls.statistics())

    def _wrote(self, collection: str, version: int) -> None:
        # The larger one, as threads that share a client may learn of their writes out of order.
        self._versions[collection] = max(version, self._versions.get(collection, 0))


def _encode(
    model: Ensemble, what: str, texts: str | Sequence[str], batch_size: int, show_progress_bar: bool
) -> Operation[Embeddings | list[Embeddings]]:
    batch_size = checks.integer("batch_size", batch_size, 1, MAX_BATCH)
    show_progress_bar = checks.flag("show_progress_bar", show_progress_bar)
    if isinstance(texts, str):
        (embeddings,) = yield from calls.encode(model, [checks.text("texts", texts)])
        return embeddings
    encoded = _texts("texts", texts)
    several: list[Embeddings] = []
    with progress(what, len(encoded), show_progress_bar) as advance:
        for batch in _batches(encoded, batch_size):
            several += yield from calls.encode(model, batch)
            advance(len(batch))
    return several


def _rerank_texts(query: bytes, documents: Sequence[str]) -> Operation[list[RerankResult]]:
    texts = _texts("documents", documents)
    return (yield from calls.rerank(query, texts)) if texts else []


def _texts(argument: str, texts: Sequence[str]) -> list[bytes]:
    return [checks.text(f"{argument}[{i}]", text) for i, text in enumerate(checks.stream(argument, texts))]


def _ids(ids: Sequence[str]) -> list[bytes]:
    return [checks.document_id(f"ids[{i}]", id_) for i, id_ in enumerate(checks.stream("ids", ids))]


def _upsert(
    collection: str, batch: Sequence[tuple[bytes, bytes, bytes]], codec: str | None, before: int
) -> Operation[int]:
    try:
        return (yield from calls.upsert(collection, batch, codec))
    except InvalidArgument as error:
        # The server counts from the beginning of the batch.
        error.args = (_POSITION.sub(lambda found: f"documents[{before + int(found[1])}]", str(error)),)
        raise


def _document_bytes(argument: str, value: Document | Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
    document = checks.document(argument, value)
    return (
        checks.document_id(f"{argument}.id", document.id),
        checks.text(f"{argument}.text", document.text),
        checks.metadata_json(f"{argument}.metadata", document.metadata),
    )


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter; takes no item before the batch that needs it."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
