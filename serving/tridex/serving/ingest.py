"""Documents into the store, and out of it. One writer per server, so writes never race each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Collection, CollectionNotFoundError, CollectionSpec, Document, Store, TokenIndexError
from tridex.kernels import Codec
from tridex.protocol import models, parameters
from tridex.protocol.parameters import IngestOperation

from . import arguments
from .documents import Embedder
from .service import Context, ErrorCode, Request, RequestError, Result, invalid

_DEFAULT_CODEC = Codec.FLOAT16


@dataclass(frozen=True)
class _Write:
    """One request, checked."""

    collection: str
    operation: IngestOperation
    codec: Codec
    ids: list[str]
    documents: list[Document]
    """Empty for a delete."""


class IngestService:
    """ID, TEXT and METADATA (JSON), [batch, 1] each, to VERSION [batch, 1]: the version that holds them all."""

    def __init__(self, context: Context) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._manifest = artifact.manifest
        self._embedder = Embedder(artifact, context.infer)
        self._store = Store(context.store)

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        """Consecutive requests of one kind on one collection become one transaction; the rest keep their order."""
        results: dict[int, Result] = {}
        writes: dict[int, _Write] = {}
        for i, request in enumerate(requests):
            try:
                writes[i] = _check(request)
            except RequestError as error:
                results[i] = error
        for run in _runs(writes):
            outcome = self._write([writes[i] for i in run])
            for i in run:
                rows = (len(writes[i].ids), 1)
                results[i] = outcome if isinstance(outcome, RequestError) else _version(outcome, rows)
        return [results[i] for i in range(len(requests))]

    def close(self) -> None:
        pass

    def _write(self, writes: Sequence[_Write]) -> int | RequestError:
        first = writes[0]
        try:
            if first.operation is IngestOperation.DELETE:
                collection = self._store.open(first.collection)
                return collection.delete([key for write in writes for key in write.ids])
            # A later request's document replaces an earlier one's.
            documents = list({document.id: document for write in writes for document in write.documents}.values())
            collection = self._open_or_create(first)
            collection.check_fingerprint(self._manifest.fingerprint)
            return collection.upsert(documents, self._embedder.documents([document.text for document in documents]))
        except CollectionNotFoundError as error:
            return RequestError(ErrorCode.NOT_FOUND, str(error))
        except TokenIndexError as error:
            return invalid(str(error))
        except RequestError as error:
            return error

    def _open_or_create(self, write: _Write) -> Collection:
        try:
            return self._store.open(write.collection)
        except CollectionNotFoundError:
            spec = CollectionSpec(self._manifest.dim, write.codec, self._manifest.fingerprint)
            return self._store.create(write.collection, spec)


def _check(request: Request) -> _Write:
    collection = arguments.collection(request)
    operation = arguments.choice(request, parameters.OPERATION, IngestOperation)
    ids = arguments.ids(request, models.DOCUMENT_ID)
    codec = _DEFAULT_CODEC
    documents: list[Document] = []
    if operation is IngestOperation.UPSERT:
        if parameters.CODEC in request.parameters:
            codec = arguments.choice(request, parameters.CODEC, Codec)
        twice = {key for key in ids if ids.count(key) > 1}
        if twice:
            raise invalid(f"input {models.DOCUMENT_ID.name} holds {min(twice)!r} twice; expected distinct ids")
        texts = arguments.texts(request, models.DOCUMENT_TEXT)
        given = request.get(models.DOCUMENT_METADATA) is not None
        metadata = arguments.metadata(request, models.DOCUMENT_METADATA) if given else [{} for _ in ids]
        documents = [Document(*fields) for fields in zip(ids, texts, metadata, strict=True)]
    return _Write(collection, operation, codec, ids, documents)


def _runs(writes: dict[int, _Write]) -> Iterator[list[int]]:
    """Positions of consecutive writes that can share a transaction."""
    run: list[int] = []
    for i, write in writes.items():
        if run and (writes[run[-1]].collection, writes[run[-1]].operation) != (write.collection, write.operation):
            yield run
            run = []
        run.append(i)
    if run:
        yield run


def _version(version: int, shape: tuple[int, int]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    return {models.VERSION.name: np.full(shape, version, np.int64)}
