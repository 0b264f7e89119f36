"""Writes to the store: documents, collections, aliases. One writer per server, so writes never race each other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tridex.kernels.codecs  # loads torch, for which the first write would wait  # noqa: F401
from tridex.building import document_reading, new_collection_spec
from tridex.encoding import (
    DocumentReading,
    TokenBatch,
    groups_of_texts,
    join_windows,
    latest_version_dir,
    load_artifact,
)
from tridex.index import (
    Collection,
    CollectionNotFoundError,
    Document,
    DocumentInference,
    ReadOnlyStoreError,
    Size,
    Store,
    WriterLock,
    check_metadata,
)
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import IfExists
from tridex.serving.backend.canary import FirstAnswer
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.lane import UNIT_TOKENS, Lane, Task, Wait
from tridex.serving.backend.remote_encoder import RemoteEncoder
from tridex.serving.backend.scheduler import Scheduler
from tridex.serving.backend.service import (
    Context,
    ErrorCode,
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
from tridex.serving.metrics.table import Stage
from tridex.serving.requests.ingest import (
    ChangeFieldsRequest,
    ClearRequest,
    CompactRequest,
    CreateRequest,
    DeleteMatchingRequest,
    DeleteRequest,
    DropAliasRequest,
    DropRequest,
    IngestRequest,
    SetAliasRequest,
    UpdateMatchingRequest,
    UpdateMetadataRequest,
    UpsertRequest,
    parse_ingest_request,
)

_log = logging.getLogger(__name__)

_TOKENS_PER_CALL = 1024
"""Padded tokens of a call to the encoder on a CPU, whose cores searches want."""

_GPU_TOKENS = 4096
"""Of a unit, and of a call to the encoder, where that is on a GPU: 16 documents of 256 tokens took 1.9 ms on an H200.
Searches, whose process takes turns with the encoder's there, wait no longer."""

_CHARACTERS_TOGETHER = 1 << 16
"""Of the documents that are tokenised together, on all cores: 0.02 s on two."""


@dataclass(eq=False)
class _UpsertTask(Task[UpsertRequest]):
    """An upsert, and how its documents were read."""

    reading: DocumentReading | None = None
    read: list[Document] = field(default_factory=list)
    """Those of its documents that are encoded: all but those that it skips."""
    windows: list[int] = field(default_factory=list)
    """In how many windows each of them was read."""
    added: AbstractSet[str] = frozenset()
    """Ids that it added, once it is done."""
    replaced: AbstractSet[str] = frozenset()
    """Ids whose documents it replaced."""
    is_outdated: bool = False
    """Whether it has to be encoded again."""


class _Change(NamedTuple):
    """What an operation did: the version that it made or saw, 0 where there is none, and how many documents."""

    version: int
    replaced: int = 0
    deleted: int = 0


class IngestService(Service):
    """ID, TEXT and METADATA (JSON), [batch, 1] each, to VERSION [batch, 1]: the version that holds them all.

    ADDED, REPLACED and DELETED [batch, 1] count the documents. Operations without documents take an ID of [1, 0] and
    answer with tensors of [1, 1]. They, and the documents of other clients, do not wait for a long document to be
    encoded.
    """

    def __init__(self, context: Context) -> None:
        self._artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._tokenizer = self._artifact.tokenizer()
        self._store = Store(context.store)
        self._writer = WriterLock(self._store.folder)
        try:
            self._writer.acquire()
        except ReadOnlyStoreError as error:  # tried again when a write comes
            _log.warning("%s", error)
        self._maintenance = Maintenance(self._store, self._writer, context.metrics)
        self._admission = Admission(self._store, context.memory_budget)
        self._transactions: dict[type[IngestRequest], Callable[[list[Any]], None]] = {
            UpsertRequest: self._upsert,
            DeleteRequest: self._delete,
        }
        """Writes of documents, of which consecutive ones are one transaction."""
        self._operations: dict[type[IngestRequest], Callable[[Any], _Change]] = {
            DeleteMatchingRequest: self._delete_matching,
            ClearRequest: self._clear,
            UpdateMetadataRequest: self._update_metadata,
            UpdateMatchingRequest: self._update_matching,
            ChangeFieldsRequest: self._change_fields,
            CreateRequest: self._create,
            DropRequest: self._drop,
            CompactRequest: self._compact,
            SetAliasRequest: self._set_alias,
            DropAliasRequest: self._drop_alias,
        }
        """The rest, one by one."""
        self._lane: Lane[Any] = Lane(
            self._begin,
            name="the ingest",
            label="ingest",
            default_wait_s=60.0,
            max_weight=1024,
            door=context.gate(GateLane.INGEST),
            encodes_meanwhile=True,
        )
        on_gpu = context.server_device != "cpu"
        self._encoder = RemoteEncoder(context.infer, _GPU_TOKENS if on_gpu else _TOKENS_PER_CALL)
        self._canary = self._tokenizer.documents(["warm up"])
        self._first_answer = FirstAnswer()
        self._writes = ThreadPoolExecutor(1, "write")
        self._scheduler = Scheduler(self._encoder.encode_many, (self._lane,), _GPU_TOKENS if on_gpu else UNIT_TOKENS)
        context.metrics.gauges(self._scheduler.gauges)

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        tasks = each(requests, self._task)
        with self._scheduler.together():
            return each(tasks, self._admit)

    def trouble(self) -> str | None:
        return self._scheduler.trouble() or self._maintenance.trouble()

    def check(self) -> None:
        """Has `encoder` encode, in whatever backend it runs. Nothing is written."""
        self._first_answer.check(self._encoder.encode(self._canary))

    def close(self) -> None:
        self._scheduler.close()
        self._writes.shutdown()
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
        task.read = self._to_encode(task.request)
        tokens = 0
        for texts in groups_of_texts((document.text for document in task.read), _CHARACTERS_TOGETHER):
            batch, of_text = self._tokenizer.read(texts, task.reading)
            task.windows += np.bincount(of_text).tolist()
            tokens += int(batch.attention_mask.sum())
            if tokens > limits.MAX_DOCUMENT_TOKENS:
                raise invalid(
                    f"input {models.DOCUMENT_TEXT.name} holds texts of more than {limits.MAX_DOCUMENT_TOKENS} tokens; "
                    "expected at most so many in one request: send fewer documents at a time"
                )
            yield from batch.rows()

    def _to_encode(self, request: UpsertRequest) -> list[Document]:
        """The documents that the request is to write, as far as it is known before it is its turn."""
        if request.if_exists is IfExists.OVERWRITE:
            return request.documents
        with translated_errors():
            collection = self._open(request.collection)
            ids = [document.id for document in request.documents]
            return _to_write(request, collection.existing(ids) if collection else set())

    def _reading(self, request: UpsertRequest) -> DocumentReading:
        with translated_errors():
            try:
                collection = self._store.open(request.collection)
            except CollectionNotFoundError:
                return document_reading(new_collection_spec(self._artifact, request.codec), self._artifact.manifest)
            return document_reading(collection.spec, self._artifact.manifest)

    def _begin(self, tasks: Sequence[Task[IngestRequest]]) -> Wait:
        """Has tasks carried out while the next ones are encoded."""
        done = self._writes.submit(self._carry_out, tasks)

        def wait() -> None:
            done.result()
            for task in tasks:
                if isinstance(task, _UpsertTask) and task.is_outdated:
                    task.rows, task.encoded, task.is_outdated = self._rows(task), [], False
                    self._scheduler.resubmit(task, self._lane)

        return wait

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
                        with request.sender.timeline.stage(Stage.WRITE):
                            change = self._operations[type(request)](request)
                        deleted, replaced = [change.deleted], [change.replaced]
                        run[0].answer.set_result(_answer(change.version, replaced=replaced, deleted=deleted))
            except RequestError as error:
                for task in run:
                    task.answer.set_result(error)

    def _transaction(self, task: Task[Any]) -> Hashable:
        """Equal for tasks that can be one transaction."""
        kind = type(task.request)
        return (kind, task.request.collection) if kind in self._transactions else id(task)

    def _delete(self, tasks: list[Task[DeleteRequest]]) -> None:
        """One transaction for all of these."""
        began = time.monotonic()
        name = tasks[0].request.collection
        ids = [key for task in tasks for key in task.request.ids]
        with self._writer:
            collection = self._store.open(name)
            existing = collection.existing(ids)
            version = collection.delete(ids)
        self._maintenance.wrote(name)
        _wrote(tasks, began)
        for task in tasks:
            deleted = []
            for key in task.request.ids:
                deleted.append(int(key in existing))
                existing.discard(key)
            task.answer.set_result(_answer(version, len(deleted), deleted=deleted))

    def _upsert(self, tasks: list[_UpsertTask]) -> None:
        """One transaction for all of these, but for those that cannot be in it, which are taken out of the list."""
        began = time.monotonic()
        name = tasks[0].request.collection
        collection = self._open(name) or self._create_for(tasks)
        if collection is None:
            return
        existing = collection.existing([document.id for task in tasks for document in task.request.documents])
        to_write: dict[str, tuple[Document, NDArray[np.float32]]] = {}
        for task in [*tasks]:
            try:
                documents = _to_write(task.request, existing)
                with translated_errors():
                    collection = self._fitted(collection, documents)
            except RequestError as error:
                task.answer.set_result(error)
                tasks.remove(task)
                continue
            written = {document.id for document in documents}
            if self._is_outdated(task, collection, written):
                task.is_outdated = True
                tasks.remove(task)
                continue
            task.added, task.replaced = written - existing, written & existing
            # A later request's document replaces an earlier one's.
            to_write |= {key: pair for key, pair in _embedded(task).items() if key in written}
            existing |= written
        version = self._write(collection, to_write)
        self._maintenance.wrote(name)
        _wrote(tasks, began)
        for task in tasks:
            ids = [document.id for document in task.request.documents]
            added, replaced = ([int(key in some) for key in ids] for some in (task.added, task.replaced))
            task.answer.set_result(_answer(version, len(ids), added=added, replaced=replaced))

    def _create_for(self, tasks: list[_UpsertTask]) -> Collection | None:
        """A new collection with the fields of these tasks' documents. Those whose metadata cannot be stored are refused
        and taken out of the list; without any left, there is no collection."""
        inference = DocumentInference()
        for task in [*tasks]:
            try:
                with translated_errors():
                    inference.add_all(task.request.documents)
                    for document in task.request.documents:
                        check_metadata({}, document.id, document.metadata)
            except RequestError as error:
                task.answer.set_result(error)
                tasks.remove(task)
        if not tasks:
            return None
        spec = new_collection_spec(self._artifact, tasks[0].request.codec)
        return self._store.create(tasks[0].request.collection, replace(spec, fields=inference.fields))

    def _fitted(self, collection: Collection, documents: Sequence[Document]) -> Collection:
        """The collection with the fields that it infers from these documents. Raises InvalidDocumentError."""
        fields = collection.inferred_fields(documents)
        if fields != collection.spec.fields:
            with self._writer:
                collection = collection.change_fields(fields)
        collection.check_metadata(documents)
        return collection

    def _is_outdated(self, task: _UpsertTask, collection: Collection, written: AbstractSet[str]) -> bool:
        """Whether the task's documents were read as another collection of that name, or one that did not exist yet,
        reads its documents, or without some that were there then and are not now."""
        read_otherwise = task.reading != document_reading(collection.spec, self._artifact.manifest)
        return read_otherwise or not written <= {document.id for document in task.read}

    def _write(self, collection: Collection, to_write: Mapping[str, tuple[Document, NDArray[np.float32]]]) -> int:
        if not to_write:
            return collection.version
        documents, embeddings = zip(*to_write.values(), strict=True)
        id_bytes = sum(len(key.encode()) for key in to_write)
        more = Size(len(to_write), sum(map(len, embeddings)), id_bytes)
        self._admission.check(collection, more)
        with self._writer:
            version = collection.latest().upsert(documents, embeddings)
        self._admission.wrote(collection, more)
        return version

    def _open(self, name: str) -> Collection | None:
        """The collection of that name, made with the served checkpoint; None where there is none."""
        try:
            collection = self._store.open(name)
        except CollectionNotFoundError:
            return None
        manifest = self._artifact.manifest
        collection.spec.check_checkpoint(collection.name, manifest.fingerprint, manifest.component_hashes)
        return collection

    def _delete_matching(self, request: DeleteMatchingRequest) -> _Change:
        with self._writer:
            collection = self._store.open(request.collection)
            deleted = collection.count(request.filters)
            version = collection.delete_matching(request.filters)
        self._maintenance.wrote(request.collection)
        return _Change(version, deleted=deleted)

    def _clear(self, request: ClearRequest) -> _Change:
        with self._writer:
            collection = self._store.open(request.collection)
            deleted = collection.count()
            version = collection.clear()
        self._maintenance.wrote(request.collection)
        return _Change(version, deleted=deleted)

    def _update_metadata(self, request: UpdateMetadataRequest) -> _Change:
        with self._writer:
            collection = self._store.open(request.collection)
            updated = collection.update_metadata(request.changes, limits.MAX_METADATA_BYTES)
        self._maintenance.wrote(request.collection)
        return _Change(collection.version, replaced=updated)

    def _update_matching(self, request: UpdateMatchingRequest) -> _Change:
        with self._writer:
            collection = self._store.open(request.collection)
            updated = collection.update_metadata_matching(request.filters, request.change, limits.MAX_METADATA_BYTES)
        self._maintenance.wrote(request.collection)
        return _Change(collection.version, replaced=updated)

    def _change_fields(self, request: ChangeFieldsRequest) -> _Change:
        with self._writer:
            return _Change(self._store.open(request.collection).change_fields(request.changes).version)

    def _create(self, request: CreateRequest) -> _Change:
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
        return _Change(self._store.create(request.collection, spec).version)

    def _drop(self, request: DropRequest) -> _Change:
        self._store.drop(request.collection)
        return _Change(0)

    def _compact(self, request: CompactRequest) -> _Change:
        return _Change(self._maintenance.compact(self._store.open(request.collection)))

    def _set_alias(self, request: SetAliasRequest) -> _Change:
        self._store.set_alias(request.alias, request.collection)
        return _Change(self._store.open(request.collection).version)

    def _drop_alias(self, request: DropAliasRequest) -> _Change:
        self._store.drop_alias(request.alias)
        return _Change(0)


def _wrote(tasks: Sequence[Task[Any]], began: float) -> None:
    """These tasks were one transaction since `began`."""
    ended = time.monotonic()
    for task in tasks:
        task.request.sender.timeline.add(Stage.WRITE, began, ended, 1 / len(tasks))


def _to_write(request: UpsertRequest, existing: AbstractSet[str]) -> list[Document]:
    """The documents that a request writes where these ids exist. Raises RequestError ALREADY_EXISTS."""
    if request.if_exists is IfExists.OVERWRITE:
        return request.documents
    kept = [document for document in request.documents if document.id not in existing]
    if request.if_exists is IfExists.FAIL and len(kept) < len(request.documents):
        key = next(document.id for document in request.documents if document.id in existing)
        raise RequestError(
            ErrorCode.ALREADY_EXISTS,
            f"document {key!r} is in collection {request.collection!r} already; expected new ids, as parameter "
            f"{parameters.IF_EXISTS} is {IfExists.FAIL.value}",
        )
    return kept


def _embedded(task: _UpsertTask) -> dict[str, tuple[Document, NDArray[np.float32]]]:
    """The documents that were encoded, by id, with their token embeddings [tokens, dim]."""
    windows = [one.scoring for one in task.encoded]
    embeddings = join_windows(windows, task.windows, task.reading.pooling_factor if task.reading else 1)
    return {document.id: (document, array) for document, array in zip(task.read, embeddings, strict=True)}


def _answer(
    version: int,
    rows: int = 1,
    *,
    added: Sequence[int] = (),
    replaced: Sequence[int] = (),
    deleted: Sequence[int] = (),
) -> dict[str, NDArray[np.int64]]:
    """The tensors of an answer, [rows, 1] each; zeros for what is not given."""

    def column(counts: Sequence[int]) -> NDArray[np.int64]:
        return np.array(counts or [0] * rows, np.int64)[:, None]

    return {
        models.VERSION.name: np.full((rows, 1), version, np.int64),
        models.ADDED.name: column(added),
        models.REPLACED.name: column(replaced),
        models.DELETED.name: column(deleted),
    }
