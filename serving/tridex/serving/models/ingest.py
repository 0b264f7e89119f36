"""Writes to the store: documents, collections, aliases. One writer per server, so writes never race each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.building import DEFAULT_CODEC, document_reading, new_collection_spec
from tridex.encoding import DocumentReading, TokenBatch, join_windows, latest_version_dir, load_artifact
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
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import IngestOperation
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.remote_encoder import RemoteEncoder
from tridex.serving.backend.scheduler import Lane, Scheduler, Task
from tridex.serving.backend.service import (
    Arrays,
    Context,
    Request,
    RequestError,
    Result,
    Service,
    each,
    invalid,
)
from tridex.serving.collections.admission import Admission, default_budget
from tridex.serving.collections.maintenance import Maintenance
from tridex.serving.requests import fields as arguments


@dataclass(eq=False)
class _Write:
    """An upsert, or a delete by ids, checked."""

    collection: str
    operation: IngestOperation
    codec: Codec
    ids: list[str]
    documents: list[Document]
    """Empty for a delete."""
    reading: DocumentReading | None = None
    """How the documents were read."""
    windows: list[int] = field(default_factory=list)
    """In how many windows each document was read."""

    def shares_transaction(self, other: _Write) -> bool:
        """Whether both can be one transaction."""
        return (self.collection, self.operation) == (other.collection, other.operation)


class IngestService(Service):
    """ID, TEXT and METADATA (JSON), [batch, 1] each, to VERSION [batch, 1]: the version that holds them all.

    Operations without documents take an ID of [1, 0] and answer with a VERSION of [1, 1]. They, and other callers'
    documents, do not wait for a long document to be encoded.
    """

    def __init__(self, context: Context) -> None:
        self._artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._tokenizer = self._artifact.tokenizer()
        self._store = Store(context.store)
        self._writer = WriterLock(self._store.folder)
        with suppress(ReadOnlyStoreError):  # tried again when a write comes
            self._writer.acquire()
        self._maintenance = Maintenance(self._store, self._writer)
        searching = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._admission = Admission(self._store, context.memory_budget or default_budget(searching))
        self._writes: dict[Task, _Write] = {}
        self._lane = Lane(self._carry_out, name="the ingest", default_wait_s=60.0, max_weight=1024)
        self._scheduler = Scheduler(RemoteEncoder(context.infer).encode_many, (self._lane,))

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        with self._scheduler.together():
            return each(requests, self._admit)

    def trouble(self) -> str | None:
        return self._scheduler.trouble() or self._maintenance.trouble()

    def close(self) -> None:
        self._scheduler.close()
        self._maintenance.close()
        self._writer.release()

    def _admit(self, request: Request) -> Future[Arrays | RequestError]:
        with translated_errors():
            self._writer.acquire()
        operation = arguments.choice(request, parameters.OPERATION, IngestOperation)
        write = _check(request, operation)
        if write is None:
            return self._scheduler.submit(Task(request, iter(())), self._lane)
        size = sum(len(document.text) for document in write.documents)
        task = Task(request, self._rows(write), len(write.ids) + size // 256, size)
        self._writes[task] = write
        task.answer.add_done_callback(lambda _: self._writes.pop(task, None))
        return self._scheduler.submit(task, self._lane)

    def _rows(self, write: _Write) -> Iterator[TokenBatch]:
        """The documents' windows, read as the collection reads its documents."""
        if not write.documents:
            return
        write.reading, write.windows = self._reading(write), []
        tokens = 0
        for document in write.documents:
            batch, _ = self._tokenizer.read([document.text], write.reading)
            write.windows.append(len(batch.input_ids))
            tokens += int(batch.attention_mask.sum())
            if tokens > limits.MAX_DOCUMENT_TOKENS:
                raise invalid(
                    f"input {models.DOCUMENT_TEXT.name} holds texts of more than {limits.MAX_DOCUMENT_TOKENS} tokens; "
                    "expected at most so many in one request: send fewer documents at a time"
                )
            yield from batch.rows()

    def _reading(self, write: _Write) -> DocumentReading:
        with translated_errors():
            try:
                collection = self._store.open(write.collection)
            except CollectionNotFoundError:
                return document_reading(new_collection_spec(self._artifact, write.codec), self._artifact.manifest)
            return document_reading(collection.spec, self._artifact.manifest)

    def _carry_out(self, tasks: Sequence[Task]) -> None:
        """Consecutive requests of one kind on one collection become one transaction; the rest keep their order."""
        run: dict[Task, _Write] = {}
        for task in tasks:
            write = self._writes.get(task)
            if run and not (write and write.shares_transaction(next(iter(run.values())))):
                self._write(run)
                run = {}
            if write:
                run[task] = write
            else:
                self._manage_one(task)
        if run:
            self._write(run)

    def _manage_one(self, task: Task) -> None:
        try:
            operation = arguments.choice(task.request, parameters.OPERATION, IngestOperation)
            task.answer.set_result(_version(self._manage(task.request, operation), 1))
        except RequestError as error:
            task.answer.set_result(error)

    def _write(self, run: dict[Task, _Write]) -> None:
        """One transaction for all of these."""
        first = next(iter(run.values()))
        try:
            with translated_errors():
                if first.operation is IngestOperation.DELETE:
                    with self._writer:
                        collection = self._store.open(first.collection)
                        version = collection.delete([key for w in run.values() for key in w.ids])
                else:
                    collection = self._open_or_create(first)
                    self._sort_out(collection, run)
                    version = self._upsert(collection, run)
                self._maintenance.wrote(first.collection)
        except RequestError as error:
            for task in run:
                task.answer.set_result(error)
            return
        for task, write in run.items():
            task.answer.set_result(_version(version, len(write.ids)))

    def _sort_out(self, collection: Collection, run: dict[Task, _Write]) -> None:
        """Takes out what cannot be in the transaction: documents that the collection refuses, or that were read as
        another collection of that name, or one that was not made yet, reads them: these are read again."""
        how = document_reading(collection.spec, self._artifact.manifest)
        for task, write in list(run.items()):
            try:
                with translated_errors():
                    collection.check_metadata(write.documents)
            except RequestError as error:
                del run[task]
                task.answer.set_result(error)
                continue
            if write.reading != how:
                del run[task]
                task.rows, task.encoded = self._rows(write), []
                self._scheduler.again(task, self._lane)

    def _upsert(self, collection: Collection, run: Mapping[Task, _Write]) -> int:
        # A later request's document replaces an earlier one's.
        distinct: dict[str, tuple[Document, NDArray[np.float32]]] = {}
        for task, write in run.items():
            windows = [one.scoring for one in task.encoded]
            factor = write.reading.pooling_factor if write.reading else 1
            for document, array in zip(write.documents, join_windows(windows, write.windows, factor), strict=True):
                distinct[document.id] = document, array
        if not distinct:
            return collection.version
        documents, embeddings = zip(*distinct.values(), strict=True)
        id_bytes = sum(len(key.encode()) for key in distinct)
        more = Size(len(distinct), sum(map(len, embeddings)), id_bytes)
        self._admission.check(collection, more)
        with self._writer:
            version = collection.latest().upsert(documents, embeddings)
        self._admission.wrote(collection, more)
        return version

    def _open_or_create(self, write: _Write) -> Collection:
        try:
            collection = self._store.open(write.collection)
        except CollectionNotFoundError:
            return self._store.create(write.collection, new_collection_spec(self._artifact, write.codec))
        manifest = self._artifact.manifest
        collection.spec.check_checkpoint(collection.name, manifest.fingerprint, manifest.component_hashes)
        return collection

    def _create(self, name: str, request: Request) -> Collection:
        given = arguments.fields(request)
        try:
            spec = new_collection_spec(
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
        with translated_errors():
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
                return self._maintenance.compact(self._store.open(name))
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


def _version(version: int, rows: int) -> dict[str, NDArray[np.int64]]:
    return {models.VERSION.name: np.full((rows, 1), version, np.int64)}
