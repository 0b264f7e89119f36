"""The operations of the catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import CatalogOperation
from tridex.serving.backend import fields
from tridex.serving.backend.service import MayRead, Request, invalid


@dataclass(frozen=True)
class GetRequest:
    """Documents by their ids."""

    collection: str
    ids: list[str]
    with_embeddings: bool

    @classmethod
    def parse(cls, request: Request) -> GetRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        return cls(
            fields.name(request, parameters.COLLECTION),
            fields.ids(request, models.CATALOG_IDS),
            fields.flag(request, parameters.WITH_EMBEDDINGS, default=False),
        )


@dataclass(frozen=True)
class CountRequest:
    """How many documents match."""

    collection: str
    filters: Any | None

    @classmethod
    def parse(cls, request: Request) -> CountRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        return cls(fields.name(request, parameters.COLLECTION), fields.json_value(request, parameters.FILTERS))


@dataclass(frozen=True)
class ScrollRequest:
    """A page of the documents that match, in the order of their ids."""

    collection: str
    after: str | None
    """The id behind which the page begins."""
    page: int
    """Documents at most."""
    filters: Any | None

    @classmethod
    def parse(cls, request: Request) -> ScrollRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        collection = fields.name(request, parameters.COLLECTION)
        ids = fields.ids(request, models.CATALOG_IDS)
        if len(ids) > 1:
            raise invalid(f"input {models.CATALOG_IDS.name} holds {len(ids)} ids; expected the one to go on after")
        return cls(
            collection,
            after=ids[0] if ids else None,
            page=fields.integer(request, parameters.PAGE, 1, limits.MAX_PAGE, default=limits.DEFAULT_PAGE),
            filters=fields.json_value(request, parameters.FILTERS),
        )


@dataclass(frozen=True)
class FacetRequest:
    """The most frequent values of a field."""

    collection: str
    field: str
    filters: Any | None
    limit: int

    @classmethod
    def parse(cls, request: Request) -> FacetRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        return cls(
            fields.name(request, parameters.COLLECTION),
            fields.text(request, parameters.FIELD),
            fields.json_value(request, parameters.FILTERS),
            fields.integer(request, parameters.LIMIT, 1, limits.MAX_FACET_VALUES, default=limits.DEFAULT_FACET_VALUES),
        )


@dataclass(frozen=True)
class MinMaxRequest:
    """The smallest and the largest value of a field."""

    collection: str
    field: str
    filters: Any | None

    @classmethod
    def parse(cls, request: Request) -> MinMaxRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        return cls(
            fields.name(request, parameters.COLLECTION),
            fields.text(request, parameters.FIELD),
            fields.json_value(request, parameters.FILTERS),
        )


@dataclass(frozen=True)
class CollectionRequest:
    """One collection's description."""

    collection: str

    @classmethod
    def parse(cls, request: Request) -> CollectionRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        return cls(fields.name(request, parameters.COLLECTION))


@dataclass(frozen=True)
class CollectionsRequest:
    """The description of every collection that its caller may know of."""

    may_read: MayRead

    @classmethod
    def parse(cls, request: Request) -> CollectionsRequest:
        """It has no fields."""
        return cls(request.sender.may_read)


@dataclass(frozen=True)
class AliasesRequest:
    """Every alias that its caller may know of."""

    may_read: MayRead

    @classmethod
    def parse(cls, request: Request) -> AliasesRequest:
        """It has no fields."""
        return cls(request.sender.may_read)


@dataclass(frozen=True)
class ManifestRequest:
    """The served checkpoint's manifest."""

    @classmethod
    def parse(cls, _: Request) -> ManifestRequest:
        """It has no fields."""
        return cls()


CatalogRequest = (
    GetRequest
    | CountRequest
    | ScrollRequest
    | FacetRequest
    | MinMaxRequest
    | CollectionRequest
    | CollectionsRequest
    | AliasesRequest
    | ManifestRequest
)

_PARSERS: Mapping[CatalogOperation, Callable[[Request], CatalogRequest]] = {
    CatalogOperation.GET: GetRequest.parse,
    CatalogOperation.COUNT: CountRequest.parse,
    CatalogOperation.SCROLL: ScrollRequest.parse,
    CatalogOperation.FACET: FacetRequest.parse,
    CatalogOperation.MIN_MAX: MinMaxRequest.parse,
    CatalogOperation.COLLECTION: CollectionRequest.parse,
    CatalogOperation.COLLECTIONS: CollectionsRequest.parse,
    CatalogOperation.ALIASES: AliasesRequest.parse,
    CatalogOperation.ENCODER: ManifestRequest.parse,
}


def parse_catalog_request(request: Request) -> CatalogRequest:
    """The request of the parameter `operation`. Raises RequestError INVALID_ARGUMENT."""
    operation = fields.choice(request, parameters.OPERATION, CatalogOperation)
    request.sender.timeline.is_about(operation.value)
    return _PARSERS[operation](request)
