"""The operations of ingest: writes of documents, and changes of collections and aliases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tridex.building import DEFAULT_CODEC
from tridex.index import Document, Fields, FieldType, declared_fields, field_changes
from tridex.kernels import Codec
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import IfExists, IngestOperation, LongDocuments
from tridex.serving.backend import fields
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import Request, Sender, invalid


@dataclass(frozen=True)
class UpsertRequest:
    """Documents to write."""

    sender: Sender
    collection: str
    documents: list[Document]
    if_exists: IfExists
    codec: Codec
    """Of the collection, where this creates it."""

    @classmethod
    def parse(cls, request: Request) -> UpsertRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        collection = fields.name(request, parameters.COLLECTION)
        ids = _document_ids(request)
        duplicates = {key for key in ids if ids.count(key) > 1}
        if duplicates:
            raise invalid(f"input {models.DOCUMENT_ID.name} holds {min(duplicates)!r} twice; expected distinct ids")
        texts = fields.texts(request, models.DOCUMENT_TEXT)
        metadata: list[dict[str, Any]] = [{} for _ in ids]
        if request.get(models.DOCUMENT_METADATA) is not None:
            metadata = fields.json_objects(request, models.DOCUMENT_METADATA)
        documents = [Document(*columns) for columns in zip(ids, texts, metadata, strict=True)]
        if_exists = fields.choice(request, parameters.IF_EXISTS, IfExists, IfExists.OVERWRITE)
        return cls(request.sender, collection, documents, if_exists, _codec(request))


@dataclass(frozen=True)
class DeleteRequest:
    """Documents to delete by their ids."""

    sender: Sender
    collection: str
    ids: list[str]

    @classmethod
    def parse(cls, request: Request) -> DeleteRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        return cls(request.sender, fields.name(request, parameters.COLLECTION), _document_ids(request))


@dataclass(frozen=True)
class DeleteMatchingRequest:
    """Documents to delete by a filter."""

    sender: Sender
    collection: str
    filters: Any | None

    @classmethod
    def parse(cls, request: Request) -> DeleteMatchingRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, f"{IngestOperation.DELETE.value} by filters")
        return cls(
            request.sender,
            fields.name(request, parameters.COLLECTION),
            fields.json_value(request, parameters.FILTERS),
        )


@dataclass(frozen=True)
class ClearRequest:
    """A collection all of whose documents are to be deleted."""

    sender: Sender
    collection: str

    @classmethod
    def parse(cls, request: Request) -> ClearRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, IngestOperation.CLEAR.value)
        return cls(request.sender, fields.name(request, parameters.COLLECTION))


@dataclass(frozen=True)
class UpdateMetadataRequest:
    """Changes of metadata, by id."""

    sender: Sender
    collection: str
    changes: dict[str, dict[str, Any]]

    @classmethod
    def parse(cls, request: Request) -> UpdateMetadataRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        collection = fields.name(request, parameters.COLLECTION)
        ids = _document_ids(request)
        changes = dict(zip(ids, fields.json_objects(request, models.DOCUMENT_METADATA), strict=True))
        if len(changes) < len(ids):
            raise invalid(f"input {models.DOCUMENT_ID.name} holds an id twice; expected distinct ids")
        return cls(request.sender, collection, changes)


@dataclass(frozen=True)
class UpdateMatchingRequest:
    """A change of the metadata of all documents that match."""

    sender: Sender
    collection: str
    filters: Any | None
    change: dict[str, Any]

    @classmethod
    def parse(cls, request: Request) -> UpdateMatchingRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, f"{IngestOperation.UPDATE_METADATA.value} by filters")
        collection = fields.name(request, parameters.COLLECTION)
        filters = fields.json_value(request, parameters.FILTERS)
        change, *others = fields.json_objects(request, models.DOCUMENT_METADATA)
        if others:
            raise invalid(f"input {models.DOCUMENT_METADATA.name} holds {1 + len(others)} objects; expected one")
        return cls(request.sender, collection, filters, change)


@dataclass(frozen=True)
class ChangeFieldsRequest:
    """Fields that get a type, or go."""

    sender: Sender
    collection: str
    changes: Mapping[str, FieldType | None]

    @classmethod
    def parse(cls, request: Request) -> ChangeFieldsRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, IngestOperation.CHANGE_FIELDS.value)
        collection = fields.name(request, parameters.COLLECTION)
        with translated_errors():
            changes = field_changes(fields.json_value(request, parameters.FIELDS))
        return cls(request.sender, collection, changes)


@dataclass(frozen=True)
class CreateRequest:
    """A new collection, and how it reads and stores its documents."""

    sender: Sender
    collection: str
    codec: Codec
    fields: Fields | None
    """None to infer them from the first documents."""
    document_length: int | None
    """Tokens; None for the checkpoint's own length."""
    long_documents: LongDocuments
    pooling_factor: int
    """Tokens of which the collection keeps one."""

    @classmethod
    def parse(cls, request: Request) -> CreateRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, IngestOperation.CREATE.value)
        declaration = fields.json_value(request, parameters.FIELDS)
        with translated_errors():
            declared = None if declaration is None else declared_fields(declaration)
        return cls(
            sender=request.sender,
            collection=fields.name(request, parameters.COLLECTION),
            codec=_codec(request),
            fields=declared,
            document_length=fields.integer(request, parameters.DOCUMENT_LENGTH, 1, 2**31 - 1, default=None),
            long_documents=fields.choice(request, parameters.LONG_DOCUMENTS, LongDocuments, LongDocuments.WINDOWS),
            pooling_factor=fields.integer(request, parameters.POOLING_FACTOR, 1, limits.MAX_POOLING_FACTOR, default=1),
        )


@dataclass(frozen=True)
class DropRequest:
    """A collection to drop."""

    sender: Sender
    collection: str

    @classmethod
    def parse(cls, request: Request) -> DropRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, IngestOperation.DROP.value)
        return cls(request.sender, fields.name(request, parameters.COLLECTION))


@dataclass(frozen=True)
class CompactRequest:
    """A collection whose files are to be rewritten."""

    sender: Sender
    collection: str

    @classmethod
    def parse(cls, request: Request) -> CompactRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, IngestOperation.COMPACT.value)
        return cls(request.sender, fields.name(request, parameters.COLLECTION))


@dataclass(frozen=True)
class SetAliasRequest:
    """An alias that is to lead to a collection."""

    sender: Sender
    alias: str
    collection: str

    @classmethod
    def parse(cls, request: Request) -> SetAliasRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, IngestOperation.SET_ALIAS.value)
        collection = fields.name(request, parameters.COLLECTION)
        return cls(request.sender, fields.name(request, parameters.ALIAS), collection)


@dataclass(frozen=True)
class DropAliasRequest:
    """An alias to drop."""

    sender: Sender
    alias: str

    @classmethod
    def parse(cls, request: Request) -> DropAliasRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        _expect_no_ids(request, IngestOperation.DROP_ALIAS.value)
        return cls(request.sender, fields.name(request, parameters.ALIAS))


IngestRequest = (
    UpsertRequest
    | DeleteRequest
    | DeleteMatchingRequest
    | ClearRequest
    | UpdateMetadataRequest
    | UpdateMatchingRequest
    | ChangeFieldsRequest
    | CreateRequest
    | DropRequest
    | CompactRequest
    | SetAliasRequest
    | DropAliasRequest
)


def _parse_delete(request: Request) -> DeleteRequest | DeleteMatchingRequest:
    by_filter = parameters.FILTERS in request.parameters
    return DeleteMatchingRequest.parse(request) if by_filter else DeleteRequest.parse(request)


def _parse_update(request: Request) -> UpdateMetadataRequest | UpdateMatchingRequest:
    by_filter = parameters.FILTERS in request.parameters
    return UpdateMatchingRequest.parse(request) if by_filter else UpdateMetadataRequest.parse(request)


_PARSERS: Mapping[IngestOperation, Callable[[Request], IngestRequest]] = {
    IngestOperation.UPSERT: UpsertRequest.parse,
    IngestOperation.DELETE: _parse_delete,
    IngestOperation.CLEAR: ClearRequest.parse,
    IngestOperation.UPDATE_METADATA: _parse_update,
    IngestOperation.CHANGE_FIELDS: ChangeFieldsRequest.parse,
    IngestOperation.CREATE: CreateRequest.parse,
    IngestOperation.DROP: DropRequest.parse,
    IngestOperation.COMPACT: CompactRequest.parse,
    IngestOperation.SET_ALIAS: SetAliasRequest.parse,
    IngestOperation.DROP_ALIAS: DropAliasRequest.parse,
}


def parse_ingest_request(request: Request) -> IngestRequest:
    """The request of the parameter `operation`. Raises RequestError INVALID_ARGUMENT."""
    operation = fields.choice(request, parameters.OPERATION, IngestOperation)
    request.sender.timeline.is_about(operation.value)
    return _PARSERS[operation](request)


def _document_ids(request: Request) -> list[str]:
    ids = fields.ids(request, models.DOCUMENT_ID)
    shape = np.shape(request.inputs[models.DOCUMENT_ID.name])
    if not ids or shape != (len(ids), 1):
        raise invalid(f"input {models.DOCUMENT_ID.name} has shape {list(shape)}; expected [documents, 1]")
    return ids


def _expect_no_ids(request: Request, operation: str) -> None:
    ids: Any = request.get(models.DOCUMENT_ID)
    if ids is not None and np.size(ids):
        raise invalid(f"input {models.DOCUMENT_ID.name} holds ids beside operation {operation}; expected none")


def _codec(request: Request) -> Codec:
    codec = fields.choice(request, parameters.CODEC, Codec, DEFAULT_CODEC)
    if codec.residual_bits:
        trained_on_nothing = ", ".join(other.value for other in Codec if not other.residual_bits)
        raise invalid(
            f"parameter {parameters.CODEC} is {codec.value!r}, whose centroids must be trained on a corpus before the "
            "first document: build the collection with `tridex index build`, or expected one of: "
            f"{trained_on_nothing}"
        )
    return codec
