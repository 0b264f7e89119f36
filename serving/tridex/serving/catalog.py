"""What the store holds: documents by id, counts, collections, and the checkpoint that is served."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import (
    Collection,
    CollectionNotFoundError,
    Store,
    TokenIndexError,
    budget_for,
    needed_bytes,
    packed_bytes,
)
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import CatalogOperation, LongDocuments

from . import arguments
from .refusals import refusing
from .service import Arrays, Context, Request, Result, Service, as_strings, each, invalid
from .specs import reading


class CatalogService(Service):
    """An operation, and IDS [1, ids] where it takes them, to ROWS [1, rows] of JSON."""

    def __init__(self, context: Context) -> None:
        self._manifest = load_artifact(latest_version_dir(context.repository / models.ENCODER.name)).manifest
        self._store = Store(context.store)

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        return each(requests, self._answer_one)

    def _answer_one(self, request: Request) -> Arrays:
        rows = self._rows(request, arguments.choice(request, parameters.OPERATION, CatalogOperation))
        # One empty string where there is no row: no answer has a tensor without elements.
        return {models.CATALOG_ROWS.name: as_strings([json.dumps(row) for row in rows] or [""])[None]}

    def _rows(self, request: Request, operation: CatalogOperation) -> list[Any]:
        if operation is CatalogOperation.ENCODER:
            return [self._manifest.to_dict()]
        with refusing():
            if operation is CatalogOperation.COLLECTIONS:
                return [row for name in self._store.names() if (row := self._described(name))]
            if operation is CatalogOperation.ALIASES:
                aliases = self._store.aliases().items()
                return [{"alias": alias, "collection": collection} for alias, collection in aliases]
            collection = self._store.open(arguments.collection(request))
            if operation is CatalogOperation.COLLECTION:
                return [self._description(collection)]
            if operation is CatalogOperation.COUNT:
                return [{"count": collection.count(arguments.filters(request)), "version": collection.version}]
            ids = arguments.ids(request, models.CATALOG_IDS)
            if operation is CatalogOperation.GET:
                found = [document and asdict(document) for document in collection.get(ids)]
                if len(cut := _within(found, limits.MAX_ANSWER_BYTES)) < len(found):
                    raise invalid(
                        f"input {models.CATALOG_IDS.name} asks for documents of more than {limits.MAX_ANSWER_BYTES} "
                        f"bytes; expected fewer ids, {len(cut)} of these {len(ids)} at most"
                    )
                return found
            if len(ids) > 1:
                raise invalid(f"input {models.CATALOG_IDS.name} holds {len(ids)} ids; expected the one to go on after")
            after = ids[0] if ids else None
            page = collection.scroll(arguments.page(request), after, arguments.filters(request))
            return _within([asdict(document) for document in page], limits.MAX_PAGE_BYTES)

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
        how = reading(spec, self._manifest)
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


def _within(rows: list[Any], most: int) -> list[Any]:
    """The first rows, at least one, whose texts and metadata have so many bytes as JSON at most."""
    size = 0
    for i, row in enumerate(rows):
        size += len(json.dumps(row)) if row else 0
        if size > most and i:
            return rows[:i]
    return rows
