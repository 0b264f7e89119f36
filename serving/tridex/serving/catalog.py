"""What the store holds: documents by id, counts, collections, and the checkpoint that is served."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Collection, CollectionNotFoundError, Store
from tridex.protocol import models, parameters
from tridex.protocol.parameters import CatalogOperation

from . import arguments
from .service import Arrays, Context, ErrorCode, Request, RequestError, Result, as_strings, each


class CatalogService:
    """An operation, and IDS [1, ids] where it takes them, to ROWS [1, rows] of JSON."""

    def __init__(self, context: Context) -> None:
        self._manifest = load_artifact(latest_version_dir(context.repository / models.ENCODER.name)).manifest
        self._store = Store(context.store)

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        return each(requests, self._answer_one)

    def close(self) -> None:
        pass

    def _answer_one(self, request: Request) -> Arrays:
        rows = self._rows(request, arguments.choice(request, parameters.OPERATION, CatalogOperation))
        return {models.CATALOG_ROWS.name: as_strings([json.dumps(row) for row in rows])[None]}

    def _rows(self, request: Request, operation: CatalogOperation) -> list[Any]:
        if operation is CatalogOperation.ENCODER:
            return [self._manifest.to_dict()]
        if operation is CatalogOperation.COLLECTIONS:
            return [_description(self._store.open(name)) for name in self._store.names()]
        try:
            collection = self._store.open(arguments.collection(request))
        except CollectionNotFoundError as error:
            raise RequestError(ErrorCode.NOT_FOUND, str(error)) from error
        if operation is CatalogOperation.COUNT:
            return [{"count": collection.count(), "version": collection.version}]
        documents = collection.get(arguments.ids(request, models.CATALOG_IDS))
        return [document and asdict(document) for document in documents]


def _description(collection: Collection) -> dict[str, Any]:
    spec = collection.spec
    return {
        "name": collection.name,
        "count": collection.count(),
        "version": collection.version,
        "codec": spec.codec.value,
        "dim": spec.dim,
        "fingerprint": spec.fingerprint,
    }
