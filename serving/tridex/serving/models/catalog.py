"""What the store holds: documents by id, counts, collections, and the checkpoint that is served."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from tridex.building import document_reading
from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import (
    Collection,
    CollectionNotFoundError,
    Document,
    Store,
    TokenIndexError,
    budget_for,
    needed_bytes,
    packed_bytes,
)
from tridex.protocol import limits, models
from tridex.protocol.parameters import LongDocuments
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import (
    Arrays,
    Context,
    Request,
    RequestError,
    Result,
    Service,
    as_strings,
    each,
    invalid,
)
from tridex.serving.metrics.table import Stage
from tridex.serving.requests.catalog import (
    AliasesRequest,
    CatalogRequest,
    CollectionRequest,
    CollectionsRequest,
    CountRequest,
    FacetRequest,
    GetRequest,
    ManifestRequest,
    MinMaxRequest,
    ScrollRequest,
    parse_catalog_request,
)

_IDS_PER_READ = 64
"""Documents that are read at a time, before their bytes are counted."""


class CatalogService(Service):
    """An operation, and IDS [1, ids] where it takes them, to ROWS [1, rows] of JSON.

    A get with embeddings answers with EMBEDDINGS [1, tokens, dim], too.
    """

    def __init__(self, context: Context) -> None:
        self._manifest = load_artifact(latest_version_dir(context.repository / models.ENCODER.name)).manifest
        self._store = Store(context.store)
        self._rows: dict[type[CatalogRequest], Callable[[Any], list[str]]] = {
            CountRequest: self._count,
            ScrollRequest: self._scroll,
            FacetRequest: self._facet,
            MinMaxRequest: self._min_max,
            CollectionRequest: self._collection,
            CollectionsRequest: self._collections,
            AliasesRequest: self._aliases,
            ManifestRequest: self._encoder_manifest,
        }

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        return each(requests, self._answer_one)

    def check(self) -> None:
        """Reads a collection. What is wrong with the store itself is reported by whoever follows it."""
        with suppress(TokenIndexError):
            for name in self._store.names()[:1]:
                self._store.open(name).count()

    def _answer_one(self, request: Request) -> Arrays:
        parsed = parse_catalog_request(request)
        with translated_errors(), request.sender.timeline.stage(Stage.FETCH):
            if isinstance(parsed, GetRequest):
                return self._get(parsed)
            return _answer(self._rows[type(parsed)](parsed))

    def _get(self, request: GetRequest) -> Arrays:
        """Documents, null where there is none under an id."""
        collection, ids = self._store.open(request.collection), request.ids
        reads = (collection.get(ids[start : start + _IDS_PER_READ]) for start in range(0, len(ids), _IDS_PER_READ))
        found = _within(chain.from_iterable(reads), limits.MAX_ANSWER_BYTES)
        if len(found) < len(ids):
            raise _too_large(len(found), len(ids))
        return self._with_embeddings(collection, ids, found) if request.with_embeddings else _answer(found)

    def _with_embeddings(self, collection: Collection, ids: Sequence[str], documents: Sequence[str]) -> Arrays:
        room = limits.MAX_ANSWER_BYTES - sum(map(len, documents))
        rows, embeddings = [], []
        for start in range(0, len(ids), _IDS_PER_READ):
            some = ids[start : start + _IDS_PER_READ]
            stored = collection.get_embeddings(some)
            for key, document in zip(some, documents[start : start + _IDS_PER_READ], strict=True):
                own = stored.get(key)
                if own is not None:
                    embeddings.append(own)
                    room -= own.nbytes
                rows.append(document if own is None else json.dumps({**json.loads(document), "tokens": len(own)}))
                if room < 0:
                    raise _too_large(len(rows) - 1, len(ids))
        packed = np.concatenate(embeddings or [np.zeros((1, collection.spec.dim), np.float32)])
        return {**_answer(rows), models.CATALOG_EMBEDDINGS.name: packed[None]}

    def _scroll(self, request: ScrollRequest) -> list[str]:
        page = self._store.open(request.collection).scroll(request.page, request.after, request.filters)
        return _within(page, limits.MAX_PAGE_BYTES)

    def _count(self, request: CountRequest) -> list[str]:
        collection = self._store.open(request.collection)
        return [json.dumps({"count": collection.count(request.filters), "version": collection.version})]

    def _facet(self, request: FacetRequest) -> list[str]:
        collection = self._store.open(request.collection)
        found = collection.facet(request.field, request.filters, request.limit)
        return [json.dumps(asdict(value)) for value in found]

    def _min_max(self, request: MinMaxRequest) -> list[str]:
        found = self._store.open(request.collection).min_max(request.field, request.filters)
        return [json.dumps(found)] if found else []

    def _collection(self, request: CollectionRequest) -> list[str]:
        return [json.dumps(self._description(self._store.open(request.collection)))]

    def _collections(self, request: CollectionsRequest) -> list[str]:
        names = filter(request.may_read, self._store.names())
        return [json.dumps(row) for name in names if (row := self._described(name))]

    def _aliases(self, request: AliasesRequest) -> list[str]:
        return [
            json.dumps({"alias": alias, "collection": collection})
            for alias, collection in self._store.aliases().items()
            if request.may_read(alias)
        ]

    def _encoder_manifest(self, _: ManifestRequest) -> list[str]:
        return [json.dumps(self._manifest.to_dict())]

    def _described(self, name: str) -> dict[str, Any] | None:
        """A collection, or what is wrong with it; None where it was dropped since it was listed."""
        try:
            return self._description(self._store.open(name))
        except CollectionNotFoundError:
            return None
        except TokenIndexError as error:
            return {"name": name, "damage": str(error)}

    def _description(self, collection: Collection) -> dict[str, Any]:
        spec = collection.spec
        reading = document_reading(spec, self._manifest)
        size = collection.size()
        return {
            "name": collection.name,
            "count": size.documents,
            "version": collection.version,
            "codec": spec.codec.value,
            "dim": spec.dim,
            "fingerprint": spec.fingerprint,
            "checkpoint": spec.checkpoint,
            "fields": {name: kind.value for name, kind in spec.fields.items()},
            "infers_fields": spec.infers_fields,
            "document_length": reading.length,
            "long_documents": (LongDocuments.WINDOWS if reading.windows else LongDocuments.TRUNCATE).value,
            "pooling_factor": reading.pooling_factor,
            "codebook": spec.codebook,
            "tokens": size.tokens,
            "device_bytes": packed_bytes(spec, size),
            "budget_bytes": budget_for(needed_bytes(spec, size, collection.codebook)),
        }


def _answer(rows: Sequence[str]) -> dict[str, Any]:
    # One empty string where there is no row: no answer has a tensor without elements.
    return {models.CATALOG_ROWS.name: as_strings(rows or [""])[None]}


def _too_large(fit: int, wanted: int) -> RequestError:
    return invalid(
        f"input {models.CATALOG_IDS.name} asks for documents of more than {limits.MAX_ANSWER_BYTES} bytes; expected "
        f"fewer ids, {fit} of these {wanted} at most"
    )


def _within(documents: Iterable[Document | None], most: int) -> list[str]:
    """The first documents as JSON, at least one, that have so many bytes at most."""
    rows: list[str] = []
    size = 0
    for document in documents:
        row = json.dumps(document and asdict(document))
        size += len(row)
        if size > most and rows:
            break
        rows.append(row)
    return rows
