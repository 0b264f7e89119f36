"""Writes to the store: documents, collections, aliases. One writer per server, so writes never race each other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.building import document_reading, new_collection_spec
from tridex.encoding import DocumentReading, TokenBatch, join_windows, latest_version_dir, load_artifact
from tridex.index import (
    Collection,
    CollectionNotFoundError,
    Document,
    ReadOnlyStoreError,
    Size,
    Store,
    WriterLock,
)
from tridex.protocol import limits, models
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.remote_encoder import RemoteEncoder
from tridex.serving.backend.scheduler import Lane, Scheduler, Task
from tridex.serving.backend.service import (
    Context,
    Request,
    RequestError,
    Result,
    Service,
    each,
    invalid,
)
from tridex.serving.collections.admission import Admission
from tridex.serving.collections.maintenance import Maintenance
from tridex.serving.gate import GateLane
from tridex.serving.requests.ingest import (
    CompactRequest,
    CreateRequest,
    DeleteMatchingRequest,
    DeleteRequest,
    DropAliasRequest,
    DropRequest,
    IngestRequest,
    SetAliasRequest,
    UpsertRequest,
    parse_ingest_request,
)


@dataclass(eq=False)
class _UpsertTask(Task[UpsertRequest]):
    """An upsert, and how its documents were read."""

    reading: DocumentReading | None = None
    windows: list[int] = field(default_factory=list)
    """In how many windows each document was read."""


class IngestService(Service):
    """ID, TEXT and METADATA (JSON), [batch, 1] each, to VERSION [batch, 1]: the version that holds them all.

    Operations without documents take an ID of [1, 0] and answer with a VERSION of [1, 1]. They, and the documents of
    other clients, do not wait for a long document to be encoded.
    """

    def __init__(self, context: Context) -> None:
        self._artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._tokenizer = self._artifact.tokenizer()
        self._store = Store(context.store)
        self._writer = WriterLock(self._store.folder)
        with suppress(ReadOnlyStoreError):  # tried again when a write comes
            self._writer.acquire()
        self._maintenance = Maintenance(self._store, self._writer)
        self._admission = Admission(self._store, context.memory_budget)
        self._transactions: dict[type[IngestRequest], Callable[[list[Any]], None]] = {
            UpsertRequest: self._upsert,
            DeleteRequest: self._delete,
        }
        """Writes of documents, of which consecutive ones are one transaction."""
        self._operations: dict[type[IngestRequest], Callable[[Any], int]] = {
            DeleteMatchingRequest: self._delete_matching,
            CreateRequest: self._create,
            DropRequest: self._drop,
            CompactRequest: self._compact,
            SetAliasRequest: self._set_alias,
            DropAliasRequest: self._drop_alias,
        }
        """The rest, one by one: each makes a version or sees one, or has none, which is 0."""
        self._lane: Lane[Any] = Lane(
            self._carry_out,
            name="the ingest",
            default_wait_s=60.0,
            max_weight=1024,
            tell_gate=context.gate(GateLane.INGEST),
        )
        self._scheduler = Scheduler(RemoteEncoder(context.infer).encode_many, (self._lane,))

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        tasks = each(requests, self._task)
        with self._scheduler.together():
            return each(tasks, self._admit)

    def trouble(self) -> str | None:
        return self._scheduler.trouble() or self._maintenance.trouble()

    def close(self) -> None:
        self._scheduler.close()
        self._maintenance.close()
        self._writer.release()

    def _admit(self, task: Task[Any] | RequestError) -> Result:
        return task if isinstance(task, RequestError) else self._scheduler.submit(task, self._lane)

    def _task(self, raw: Request) -> Task[Any]:
        with translated_errors():
            self._writer.acquire()
        request = parse_ingest_request(raw)
        if isinstance(request, UpsertRequest):
            size = sum(len(document.text) for document in request.documents)
            task = _UpsertTask(request, iter(()), len(request.documents) + size // 256, size)
            task.rows = self._rows(task)
            return task
        return Task(request, iter(()), weight=len(request.ids) if isinstance(request, DeleteRequest) else 1)

    def _rows(self, task: _UpsertTask) -> Iterator[TokenBatch]:
        """The documents' windows, read as the collection reads its documents."""
        task.reading, task.windows = self._reading(task.request), []
        tokens = 0
        for document in task.request.documents:
            batch, _ = self._tokenizer.read([document.text], task.reading)
            task.windows.append(len(batch.input_ids))
            tokens += int(batch.attention_mask.sum())
            if tokens > limits.MAX_DOCUMENT_TOKENS:
                raise invalid(
                    f"input {models.DOCUMENT_TEXT.name} holds texts of more than {limits.MAX_DOCUMENT_TOKENS} tokens; "
                    "expected at most so many in one request: send fewer documents at a time"
                )
            yield from batch.rows()

    def _reading(self, request: UpsertRequest) -> DocumentReading:
        with translated_errors():
            try:
                collection = self._store.open(request.collection)
            except CollectionNotFoundError:
                return document_reading(new_collection_spec(self._artifact, request.codec), self._artifact.manifest)
            return document_reading(collection.spec, self._artifact.manifest)

    def _carry_out(self, tasks: Sequence[Task[IngestRequest]]) -> None:
        """In their order; consecutive writes of one kind to one collection are one transaction."""
        for _, group in groupby(tasks, self._transaction):
            run = list(group)
            request = run[0].request
            try:
                with translated_errors():
                    if transaction := self._transactions.get(type(request)):
                        transaction(run)
                    else:
                        run[0].answer.set_result(_version(self._operations[type(request)](request), 1))
            except RequestError as error:
                for task in run:
                    task.answer.set_result(error)

    def _transaction(self, task: Task[Any]) -> Hashable:
        """Equal for tasks that can be one transaction."""
        kind = type(task.request)
        return (kind, task.request.collection) if kind in self._transactions else id(task)

    def _delete(self, tasks: list[Task[DeleteRequest]]) -> None:
        """One transaction for all of these."""
        name = tasks[0].request.collection
        with self._writer:
            version = self._store.open(name).delete([key for task in tasks for key in task.request.ids])
        self._maintenance.wrote(name)
        for task in tasks:
            task.answer.set_result(_version(version, len(task.request.ids)))

    def _upsert(self, tasks: list[_UpsertTask]) -> None:
        """One transaction for all of these, but for those that cannot be in it, which are taken out of the list."""
        first = tasks[0].request
        collection = self._open_or_create(first)
        tasks[:] = [task for task in tasks if self._accepts(collection, task)]
        version = self._write(collection, tasks)
        self._maintenance.wrote(first.collection)
        for task in tasks:
            task.answer.set_result(_version(version, len(task.request.documents)))

    def _accepts(self, collection: Collection, task: _UpsertTask) -> bool:
        """Whether the task can be in the transaction. It is refused where the collection refuses its documents, and put
        back to be read again where they were read as another collection of that name, or one that did not exist yet,
        reads its documents."""
        try:
            with translated_errors():
                collection.check_metadata(task.request.documents)
        except RequestError as error:
            task.answer.set_result(error)
            return False
        if task.reading != document_reading(collection.spec, self._artifact.manifest):
            task.rows, task.encoded = self._rows(task), []
            self._scheduler.resubmit(task, self._lane)
            return False
        return True

    def _write(self, collection: Collection, tasks: Sequence[_UpsertTask]) -> int:
        # A later request's document replaces an earlier one's.
        distinct: dict[str, tuple[Document, NDArray[np.float32]]] = {}
        for task in tasks:
            windows = [one.scoring for one in task.encoded]
            factor = task.reading.pooling_factor if task.reading else 1
            for document, array in zip(
                task.request.documents, join_windows(windows, task.windows, factor), strict=True
            ):
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

    def _open_or_create(self, request: UpsertRequest) -> Collection:
        try:
            collection = self._store.open(request.collection)
        except CollectionNotFoundError:
            return self._store.create(request.collection, new_collection_spec(self._artifact, request.codec))
        manifest = self._artifact.manifest
        collection.spec.check_checkpoint(collection.name, manifest.fingerprint, manifest.component_hashes)
        return collection

    def _delete_matching(self, request: DeleteMatchingRequest) -> int:
        return self._store.open(request.collection).delete_matching(request.filters)

    def _create(self, request: CreateRequest) -> int:
        try:
            spec = new_collection_spec(
                self._artifact,
                request.codec,
                request.fields,
                document_length=request.document_length,
                long_documents=request.long_documents,
                pooling_factor=request.pooling_factor,
            )
        except ValueError as error:
            raise invalid(f"parameter {error}") from error
        return self._store.create(request.collection, spec).version

    def _drop(self, request: DropRequest) -> int:
        self._store.drop(request.collection)
        return 0

    def _compact(self, request: CompactRequest) -> int:
        return self._maintenance.compact(self._store.open(request.collection))

    def _set_alias(self, request: SetAliasRequest) -> int:
        self._store.set_alias(request.alias, request.collection)
        return self._store.open(request.collection).version

    def _drop_alias(self, request: DropAliasRequest) -> int:
        self._store.drop_alias(request.alias)
        return 0


def _version(version: int, rows: int) -> dict[str, NDArray[np.int64]]:
    return {models.VERSION.name: np.full((rows, 1), version, np.int64)}
