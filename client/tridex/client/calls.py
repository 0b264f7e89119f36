"""Every request that the client can make: one function each, for what is sent and how the answer is read.

Nothing here does I/O. Arguments have been checked; texts and ids come as UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tridex.protocol import models, parameters
from tridex.protocol.tensors import Ensemble, Tensor

from .explanation import Explanation
from .results import CollectionInfo, Document, Embeddings, FacetValue, Hit, ModelStatistics, RerankResult, SearchResult
from .wire import Answer, Array, Call, Parameters, infer, string_column, string_rows

T = TypeVar("T")


class Change(NamedTuple):
    """What a write did: the store version that it made, or saw, and how many documents."""

    version: int
    added: int
    replaced: int
    deleted: int


def search(
    collection: str,
    queries: Sequence[bytes | Embeddings],
    options: Parameters,
    candidates: Sequence[bytes] | None = None,
) -> Call[list[SearchResult]]:
    """One result a query; the queries are all texts or all embeddings.

    `options` are request parameters, with_text and with_metadata among them. `candidates` limits every query to these
    ids.
    """
    texts = [query for query in queries if isinstance(query, bytes)]
    embeddings = [query for query in queries if not isinstance(query, bytes)]
    inputs = {models.QUERY: string_column(texts)} if texts else _padded(embeddings)
    if candidates is not None:
        inputs[models.CANDIDATE_IDS] = string_rows([candidates] * len(queries))
    with_text, with_metadata = bool(options[parameters.WITH_TEXT]), bool(options[parameters.WITH_METADATA])
    outputs = [models.IDS, models.SCORES, models.VERSION]
    explained = bool(options.get(parameters.EXPLAIN))
    outputs += [models.TEXTS] * with_text + [models.METADATA] * with_metadata + [models.EXPLANATIONS] * explained

    def read(tensor: Answer) -> list[SearchResult]:
        ids, scores, versions = tensor(models.IDS), tensor(models.SCORES), tensor(models.VERSION)
        absent = np.full(ids.shape, None)
        texts = tensor(models.TEXTS) if with_text else absent
        metadata = tensor(models.METADATA) if with_metadata else absent
        explanations = tensor(models.EXPLANATIONS) if explained else absent
        return [
            SearchResult(tuple(_hit(*found) for found in zip(*row, strict=True) if found[0]), int(version[0]))
            for *row, version in zip(ids, scores.tolist(), texts, metadata, explanations, versions, strict=True)
        ]

    return infer(models.SEARCH, inputs, outputs, {parameters.COLLECTION: collection, **options}, read, texts)


def encode(model: Ensemble, texts: Sequence[bytes]) -> Call[list[Embeddings]]:
    """One array [tokens, dim] a text, of `models.ENCODE_QUERY` or `models.ENCODE_DOCUMENT`."""

    def read(tensor: Answer) -> list[Embeddings]:
        masks = tensor(models.EMBEDDING_MASK).astype(bool)
        return [padded[mask] for padded, mask in zip(tensor(models.EMBEDDINGS), masks, strict=True)]

    return infer(model, {model.inputs[0]: string_column(texts)}, model.outputs, {}, read, texts=texts)


def rerank(query: bytes, texts: Sequence[bytes]) -> Call[list[RerankResult]]:
    """The scores of `texts`, in their order."""
    inputs = {models.QUERY: string_column([query]), models.RERANK_TEXTS: string_rows([texts])}

    def read(tensor: Answer) -> list[RerankResult]:
        return [RerankResult(index, score) for index, score in enumerate(tensor(models.SCORES)[0].tolist())]

    return infer(models.RERANK, inputs, models.RERANK.outputs, {}, read, [query], texts)


def upsert(
    collection: str, documents: Sequence[tuple[bytes, bytes, bytes]], if_exists: str | None, codec: str | None
) -> Call[Change]:
    """Writes documents, each (id, text, metadata)."""
    ids, texts, metadata = zip(*documents, strict=True)
    inputs = {
        models.DOCUMENT_ID: string_column(ids),
        models.DOCUMENT_TEXT: string_column(texts),
        models.DOCUMENT_METADATA: string_column(metadata),
    }
    options = {parameters.IF_EXISTS: if_exists, parameters.CODEC: codec}
    given = {name: value for name, value in options.items() if value is not None}
    return _ingest(collection, parameters.IngestOperation.UPSERT, inputs, given)


def delete(collection: str, ids: Sequence[bytes]) -> Call[Change]:
    """Removes documents."""
    return _ingest(collection, parameters.IngestOperation.DELETE, {models.DOCUMENT_ID: string_column(ids)}, {})


def delete_matching(collection: str, filters: str) -> Call[Change]:
    """Removes the documents that match."""
    return _ingest(collection, parameters.IngestOperation.DELETE, {}, {parameters.FILTERS: filters})


def clear(collection: str) -> Call[Change]:
    """Removes every document."""
    return _ingest(collection, parameters.IngestOperation.CLEAR, {}, {})


def update_metadata(collection: str, ids: Sequence[bytes], metadata: bytes) -> Call[Change]:
    """Changes the metadata of documents."""
    inputs = {models.DOCUMENT_ID: string_column(ids), models.DOCUMENT_METADATA: string_column([metadata] * len(ids))}
    return _ingest(collection, parameters.IngestOperation.UPDATE_METADATA, inputs, {})


def update_matching(collection: str, filters: str, metadata: bytes) -> Call[Change]:
    """Changes the metadata of the documents that match."""
    inputs = {models.DOCUMENT_ID: string_rows([[]]), models.DOCUMENT_METADATA: string_column([metadata])}
    return _ingest(collection, parameters.IngestOperation.UPDATE_METADATA, inputs, {parameters.FILTERS: filters})


def change_fields(collection: str, fields: str) -> Call[Change]:
    """Gives a collection other fields."""
    return _ingest(collection, parameters.IngestOperation.CHANGE_FIELDS, {}, {parameters.FIELDS: fields})


def create_collection(
    collection: str,
    *,
    codec: str | None,
    fields: str | None,
    document_length: int | None,
    long_documents: str | None,
    pooling_factor: int | None,
) -> Call[Change]:
    """Makes an empty collection, of a first version."""
    declared = {
        parameters.CODEC: codec,
        parameters.FIELDS: fields,
        parameters.DOCUMENT_LENGTH: document_length,
        parameters.LONG_DOCUMENTS: long_documents,
        parameters.POOLING_FACTOR: pooling_factor,
    }
    given = {name: value for name, value in declared.items() if value is not None}
    return _ingest(collection, parameters.IngestOperation.CREATE, {}, given)


def drop_collection(collection: str) -> Call[Change]:
    """Removes a collection."""
    return _ingest(collection, parameters.IngestOperation.DROP, {}, {})


def compact(collection: str) -> Call[Change]:
    """Rewrites a collection's small and half deleted files; the change has the version without them."""
    return _ingest(collection, parameters.IngestOperation.COMPACT, {}, {})


def set_alias(alias: str, collection: str) -> Call[Change]:
    """Makes an alias lead to a collection; the change has the collection's version."""
    return _ingest(collection, parameters.IngestOperation.SET_ALIAS, {}, {parameters.ALIAS: alias})


def drop_alias(alias: str) -> Call[Change]:
    """Removes an alias."""
    return _ingest(alias, parameters.IngestOperation.DROP_ALIAS, {}, {parameters.ALIAS: alias})


def get(collection: str, ids: Sequence[bytes], with_embeddings: bool) -> Call[list[Document | None]]:
    """The documents under `ids`, in their order, None where there is none."""
    options: dict[str, str | int] = {
        parameters.COLLECTION: collection,
        parameters.OPERATION: parameters.CatalogOperation.GET.value,
    }
    outputs = [models.CATALOG_ROWS]
    if with_embeddings:
        options[parameters.WITH_EMBEDDINGS] = True
        outputs.append(models.CATALOG_EMBEDDINGS)

    def read(tensor: Answer) -> list[Document | None]:
        rows = [json.loads(row) for row in tensor(models.CATALOG_ROWS)[0] if row]
        documents = [row and _document(row) for row in rows]
        if not with_embeddings:
            return documents
        ends = np.cumsum([row["tokens"] if row else 0 for row in rows])
        embeddings = np.split(tensor(models.CATALOG_EMBEDDINGS)[0], ends)
        return [
            document and replace(document, embeddings=own)
            for document, own in zip(documents, embeddings, strict=False)  # what is left of them is of no document
        ]

    return infer(models.CATALOG, {models.CATALOG_IDS: string_rows([ids])}, outputs, options, read)


def facet(collection: str, field: str, filters: str | None, limit: int) -> Call[list[FacetValue]]:
    """The most frequent values of a field."""
    options = {**_selection(collection, filters), parameters.FIELD: field, parameters.LIMIT: limit}
    return _catalog(parameters.CatalogOperation.FACET, options, lambda rows: [FacetValue(**row) for row in rows])


def min_max(collection: str, field: str, filters: str | None) -> Call[tuple[Any, Any] | None]:
    """The smallest and the largest value of a field, None where no document has one."""
    options = {**_selection(collection, filters), parameters.FIELD: field}
    return _catalog(
        parameters.CatalogOperation.MIN_MAX, options, lambda rows: (rows[0][0], rows[0][1]) if rows else None
    )


def scroll(collection: str, after: bytes | None, limit: int, filters: str | None) -> Call[list[Document]]:
    """The first documents in the order of ids, at most `limit`, of those after id `after` that match."""
    page = {**_selection(collection, filters), parameters.PAGE: limit}
    ids = [] if after is None else [after]
    return _catalog(parameters.CatalogOperation.SCROLL, page, lambda rows: [_document(row) for row in rows], ids)


def count(collection: str, filters: str | None) -> Call[int]:
    """How many documents the collection holds, or how many match."""
    selection = _selection(collection, filters)
    return _catalog(parameters.CatalogOperation.COUNT, selection, lambda rows: int(rows[0]["count"]))


def collections() -> Call[list[CollectionInfo]]:
    """Every collection of the store."""
    return _catalog(parameters.CatalogOperation.COLLECTIONS, {}, lambda rows: [_collection(row) for row in rows])


def collection(name: str) -> Call[CollectionInfo]:
    """One collection."""
    return _catalog(
        parameters.CatalogOperation.COLLECTION, {parameters.COLLECTION: name}, lambda rows: _collection(rows[0])
    )


def aliases() -> Call[dict[str, str]]:
    """Every alias and its collection."""
    return _catalog(
        parameters.CatalogOperation.ALIASES, {}, lambda rows: {row["alias"]: row["collection"] for row in rows}
    )


def encoder() -> Call[dict[str, Any]]:
    """The manifest of the served encoder."""
    return _catalog(parameters.CatalogOperation.ENCODER, {}, lambda rows: dict(rows[0]))


def is_ready() -> Call[bool]:
    """Whether the server and all of its models are ready."""
    # "Not ready" is an answer: it is not asked again.
    return Call("is_server_ready", {}, bool, retried=False)


def server_metadata() -> Call[tuple[str, str, tuple[str, ...]]]:
    """The Triton server's name, version and protocol extensions."""
    return Call("get_server_metadata", {}, lambda answer: (answer.name, answer.version, tuple(answer.extensions)))


def statistics() -> Call[list[ModelStatistics]]:
    """What every model did since it was loaded."""
    return Call("get_inference_statistics", {}, lambda answer: [_statistics(model) for model in answer.model_stats])


def _ingest(
    collection: str,
    operation: parameters.IngestOperation,
    inputs: Mapping[Tensor, Array],
    options: Parameters,
) -> Call[Change]:
    options = {parameters.COLLECTION: collection, parameters.OPERATION: operation.value, **options}
    # An empty row of ids stands for no document: Triton server refuses a request without inputs to a batching model.
    inputs = inputs or {models.DOCUMENT_ID: string_rows([[]])}

    def read(tensor: Answer) -> Change:
        counts = (int(tensor(count).sum()) for count in (models.ADDED, models.REPLACED, models.DELETED))
        return Change(int(tensor(models.VERSION).max()), *counts)

    return infer(models.INGEST, inputs, models.INGEST.outputs, options, read)


def _catalog(
    operation: parameters.CatalogOperation,
    options: Parameters,
    read: Callable[[list[Any]], T],
    ids: Sequence[bytes] = (),
) -> Call[T]:
    return infer(
        models.CATALOG,
        # Ids are sent even where there are none: Triton server refuses a request without inputs to a batching model.
        {models.CATALOG_IDS: string_rows([ids])},
        models.CATALOG.outputs,
        {parameters.OPERATION: operation.value, **options},
        # One empty string stands for no row.
        lambda tensor: read([json.loads(row) for row in tensor(models.CATALOG_ROWS)[0] if row]),
    )


def _padded(queries: Sequence[Embeddings]) -> dict[Tensor, Array]:
    """Queries of different lengths as one array [queries, tokens, dim], and the mask [queries, tokens] of their tokens.

    The mask is sent even where nothing is padded: the server batches requests only with others of the same inputs.
    """
    longest = max(len(query) for query in queries)
    embeddings = np.zeros((len(queries), longest, queries[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(queries), longest), dtype=np.int64)
    for row, query in enumerate(queries):
        embeddings[row, : len(query)] = query
        mask[row, : len(query)] = 1
    return {models.QUERY_EMBEDDINGS: embeddings, models.QUERY_MASK: mask}


def _selection(collection: str, filters: str | None) -> dict[str, str | int]:
    return {parameters.COLLECTION: collection, **({} if filters is None else {parameters.FILTERS: filters})}


def _document(row: Mapping[str, Any]) -> Document:
    return Document(row["id"], row["text"], row["metadata"])


def _collection(row: Mapping[str, Any]) -> CollectionInfo:
    return CollectionInfo(**{field.name: row[field.name] for field in fields(CollectionInfo) if field.name in row})


def _hit(
    document_id: bytes, score: float, text: bytes | None, metadata: bytes | None, explanation: bytes | None
) -> Hit:
    return Hit(
        id=document_id.decode(),
        score=score,
        text=None if text is None else text.decode(),
        metadata=None if metadata is None else json.loads(metadata),
        explanation=Explanation.from_json(json.loads(explanation)) if explanation else None,
    )


def _statistics(model: Any) -> ModelStatistics:
    stats = model.inference_stats
    compute_ns = stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns
    return ModelStatistics(
        model=model.name,
        requests=stats.success.count,
        failed=stats.fail.count,
        executions=model.execution_count,
        mean_queue_us=stats.queue.ns / max(stats.queue.count, 1) / 1000,
        mean_compute_us=compute_ns / max(stats.compute_infer.count, 1) / 1000,
    )
