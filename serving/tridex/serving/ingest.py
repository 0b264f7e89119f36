"""Writes to the store: documents, collections, aliases. One writer per server, so writes never race each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import (
    Collection,
    CollectionNotFoundError,
    Document,
    ReadOnlyStoreError,
    Size,
    Store,
    WriterLock,
    declared_fields,
)
from tridex.kernels import Codec
from tridex.protocol import models, parameters
from tridex.protocol.parameters import IngestOperation

from . import arguments
from .documents import Embedder
from .memory import Admission, default_budget
from .refusals import refusing
from .service import Context, Request, RequestError, Result, invalid
from .specs import DEFAULT_CODEC, new_spec, reading
from .upkeep import Upkeep


@dataclass(frozen=True)
class _Write:
    """An upsert, or a delete by ids, checked."""

    collection: str
    operation: IngestOperation
    codec: Codec
    ids: list[str]
    documents: list[Document]
    """Empty for a delete."""

    def shares_transaction(self, other: _Write) -> bool:
        """Whether both can be one transaction."""
        return (self.collection, self.operation) == (other.collection, other.operation)


class IngestService:
    """ID, TEXT and METADATA (JSON), [batch, 1] each, to VERSION [batch, 1]: the version that holds them all.

    Operations without documents take an ID of [1, 0] and answer with a VERSION of [1, 1].
    """

    def __init__(self, context: Context) -> None:
        self._artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._embedder = Embedder(self._artifact, context.infer)
        self._store = Store(context.store)
        self._writer = WriterLock(self._store.folder)
        with suppress(ReadOnlyStoreError):  # tried again when a write comes
            self._writer.acquire()
        self._upkeep = Upkeep(self._store, self._writer)
        searching = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._admission = Admission(self._store, context.memory_budget or default_budget(searching))

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        """Consecutive requests of one kind on one collection become one transaction; the rest keep their order."""
        try:
            with refusing():
                self._writer.acquire()
        except RequestError as error:
            return [error] * len(requests)
        results: dict[int, Result] = {}
        run: dict[int, _Write] = {}
        for i, request in enumerate(requests):
            try:
                operation = arguments.choice(request, parameters.OPERATION, IngestOperation)
                write = _check(request, operation)
                if run and not (write and write.shares_transaction(next(iter(run.values())))):
                    results |= self._write(run)
                    run = {}
                if write:
                    run[i] = write
                else:
                    results[i] = _version(self._manage(request, operation), 1)
            except RequestError as error:
                results[i] = error
        if run:
            results |= self._write(run)
        return [results[i] for i in range(len(requests))]

    def close(self) -> None:
        self._upkeep.close()
        self._writer.release()

    def _write(self, run: Mapping[int, _Write]) -> dict[int, Result]:
        """One transaction for all of these; a result for each."""
        results: dict[int, Result] = {}
        first = next(iter(run.values()))
        try:
            with refusing():
                if first.operation is IngestOperation.DELETE:
                    good = dict(run)
                    with self._writer:
                        collection = self._store.open(first.collection)
                        version = collection.delete([key for w in run.values() for key in w.ids])
                else:
                    collection = self._open_or_create(first)
                    good = _storable(collection, run, results)
                    version = self._upsert(collection, [d for write in good.values() for d in write.documents])
                self._upkeep.wrote(first.collection)
        except RequestError as error:
            return {i: results.get(i, error) for i in run}
        return results | {i: _version(version, len(write.ids)) for i, write in good.items()}

    def _upsert(self, collection: Collection, documents: Sequence[Document]) -> int:
        # A later request's document replaces an earlier one's.
        distinct = list({document.id: document for document in documents}.values())
        if not distinct:
            return collection.version
        texts = [document.text for document in distinct]
        how = reading(collection.spec, self._artifact.manifest)
        embeddings = list(self._embedder.collection_documents(texts, how))
        id_bytes = sum(len(document.id.encode()) for document in distinct)
        more = Size(len(distinct), sum(map(len, embeddings)), id_bytes)
        self._admission.check(collection, more)
        with self._writer:
            version = collection.latest().upsert(distinct, embeddings)
        self._admission.wrote(collection, more)
        return version

    def _open_or_create(self, write: _Write) -> Collection:
        try:
            collection = self._store.open(write.collection)
        except CollectionNotFoundError:
            return self._store.create(write.collection, new_spec(self._artifact, write.codec))
        manifest = self._artifact.manifest
        collection.spec.check_checkpoint(collection.name, manifest.fingerprint, manifest.parts)
        return collection

    def _create(self, name: str, request: Request) -> Collection:
        given = arguments.fields(request)
        try:
            spec = new_spec(
                self._artifact,
                _codec(request),
                declared_fields({} if given is None else given),
                document_length=arguments.document_length(request),
                long_documents=arguments.long_documents(request),
                pooling_factor=arguments.pooling_factor(request),
            )
        except ValueError as error:
            raise invalid(f"parameter {error}") from error
        return self._store.create(name, spec)

    def _manage(self, request: Request, operation: IngestOperation) -> int:
        """Carries out an operation that names no documents; the version it made, or sees."""
        with refusing():
            if operation is IngestOperation.DROP_ALIAS:
                self._store.drop_alias(arguments.alias(request))
                return 0
            name = arguments.collection(request)
            if operation is IngestOperation.SET_ALIAS:
                self._store.set_alias(arguments.alias(request), name)
                return self._store.open(name).version
            if operation is IngestOperation.CREATE:
                return self._create(name, request).version
            if operation is IngestOperation.COMPACT:
                return self._upkeep.compact(self._store.open(name))
            if operation is IngestOperation.DROP:
                self._store.drop(name)
                return 0
            return self._store.open(name).delete_matching(arguments.filters(request))


def _check(request: Request, operation: IngestOperation) -> _Write | None:
    """What the request writes; None where it names no documents."""
    given: Any = request.get(models.DOCUMENT_ID)
    by_filter = operation is IngestOperation.DELETE and parameters.FILTERS in request.parameters
    if by_filter or operation not in (IngestOperation.UPSERT, IngestOperation.DELETE):
        if np.size(given):
            raise invalid(
                f"input {models.DOCUMENT_ID.name} holds ids beside operation {operation.value}"
                f"{' by filters' if by_filter else ''}; expected none"
            )
        return None
    collection = arguments.collection(request)
    ids = arguments.ids(request, models.DOCUMENT_ID)
    if not ids or np.shape(given) != (len(ids), 1):
        raise invalid(f"input {models.DOCUMENT_ID.name} has shape {list(np.shape(given))}; expected [documents, 1]")
    if operation is IngestOperation.DELETE:
        return _Write(collection, operation, DEFAULT_CODEC, ids, [])
    twice = {key for key in ids if ids.count(key) > 1}
    if twice:
        raise invalid(f"input {models.DOCUMENT_ID.name} holds {min(twice)!r} twice; expected distinct ids")
    texts = arguments.texts(request, models.DOCUMENT_TEXT)
    with_metadata = request.get(models.DOCUMENT_METADATA) is not None
    metadata = arguments.metadata(request, models.DOCUMENT_METADATA) if with_metadata else [{} for _ in ids]
    documents = [Document(*fields) for fields in zip(ids, texts, metadata, strict=True)]
    return _Write(collection, operation, _codec(request), ids, documents)


def _codec(request: Request) -> Codec:
    if parameters.CODEC not in request.parameters:
        return DEFAULT_CODEC
    codec = arguments.choice(request, parameters.CODEC, Codec)
    if codec.residual_bits:
        there = ", ".join(other.value for other in Codec if not other.residual_bits)
        raise invalid(
            f"parameter {parameters.CODEC} is {codec.value!r}, whose centroids must be trained on a corpus before the "
            f"first document: build the collection with `tridex index build`, or expected one of: {there}"
        )
    return codec


def _storable(collection: Collection, run: Mapping[int, _Write], results: dict[int, Result]) -> dict[int, _Write]:
    """The writes whose metadata is what the collection declares; the others' refusals go into `results`."""
    good = {}
    for i, write in run.items():
        try:
            with refusing():
                collection.check_metadata(write.documents)
            good[i] = write
        except RequestError as error:
            results[i] = error
    return good


def _version(version: int, rows: int) -> dict[str, NDArray[np.int64]]:
    return {models.VERSION.name: np.full((rows, 1), version, np.int64)}
