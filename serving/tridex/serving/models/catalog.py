"""What the store holds: documents by id, counts, collections, and the checkpoint that is served."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

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
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import CatalogOperation, LongDocuments
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import (
    Arrays,
    Context,
    Request,
    Result,
    Service,
    as_strings,
    each,
    invalid,
)
from tridex.serving.requests import fields as arguments

_IDS_PER_READ = 64
"""Documents that are read at a time, before their bytes are counted."""


class CatalogService(Service):
    """An operation, and IDS [1, ids] where it takes them, to ROWS [1, rows] of JSON."""

    def __init__(self, context: Context) -> None:
        self._manifest = load_artifact(latest_version_dir(context.repository / models.ENCODER.name)).manifest
        self._store = Store(context.store)

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        return each(requests, self._answer_one)

    def _answer_one(self, request: Request) -> Arrays:
        operation = arguments.choice(request, parameters.OPERATION, CatalogOperation)
        with translated_errors():
            if operation in (CatalogOperation.GET, CatalogOperation.SCROLL):
                rows = self._documents(request, operation)
            else:
                rows = [json.dumps(row) for row in self._rows(request, operation)]
        # One empty string where there is no row: no answer has a tensor without elements.
        return {models.CATALOG_ROWS.name: as_strings(rows or [""])[None]}

    def _rows(self, request: Request, operation: CatalogOperation) -> list[Any]:
        if operation is CatalogOperation.ENCODER:
            return [self._manifest.to_dict()]
        if operation is CatalogOperation.COLLECTIONS:
            return [row for name in self._store.names() if (row := self._described(name))]
        if operation is CatalogOperation.ALIASES:
            aliases = self._store.aliases().items()
            return [{"alias": alias, "collection": collection} for alias, collection in aliases]
        collection = self._store.open(arguments.collection(request))
        if operation is CatalogOperation.COLLECTION:
            return [self._description(collection)]
        return [{"count": collection.count(arguments.filters(request)), "version": collection.version}]

    def _documents(self, request: Request, operation: CatalogOperation) -> list[str]:
        """Documents as JSON, as many as there is room for; null where there is none under an id."""
        collection = self._store.open(arguments.collection(request))
        ids = arguments.ids(request, models.CATALOG_IDS)
        if operation is CatalogOperation.GET:
            reads = (collection.get(ids[start : start + _IDS_PER_READ]) for start in range(0, len(ids), _IDS_PER_READ))
            found = _within(chain.from_iterable(reads), limits.MAX_ANSWER_BYTES)
            if len(found) < len(ids):
                raise invalid(
                    f"input {models.CATALOG_IDS.name} asks for documents of more than {limits.MAX_ANSWER_BYTES} "
                    f"bytes; expected fewer ids, {len(found)} of these {len(ids)} at most"
                )
            return found
        if len(ids) > 1:
            raise invalid(f"input {models.CATALOG_IDS.name} holds {len(ids)} ids; expected the one to go on after")
        after = ids[0] if ids else None
        page = collection.scroll(arguments.page(request), after, arguments.filters(request))
        return _within(page, limits.MAX_PAGE_BYTES)

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
        how = document_reading(spec, self._manifest)
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
            "document_length": how.length,
            "long_documents": (LongDocuments.WINDOWS if how.windows else LongDocuments.TRUNCATE).value,
            "pooling_factor": how.pooling_factor,
            "codebook": spec.codebook,
            "tokens": size.tokens,
            "device_bytes": packed_bytes(spec, size),
            "budget_bytes": budget_for(needed_bytes(spec, size, collection.codebook)),
        }


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
