"""The token index: documents and their codes in the store, packed segments in device memory, exact search."""

from .collection import Collection, CollectionSpec, Document
from .errors import (
    CheckpointMismatchError,
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    InvalidDocumentError,
    InvalidFieldError,
    InvalidFilterError,
    TokenIndexError,
)
from .fields import FieldType, declared_fields
from .ranking import Ranking, fuse_ranks, fuse_scores
from .store import Location, Store
from .view import Follower, View

__all__ = [
    "CheckpointMismatchError",
    "Collection",
    "CollectionExistsError",
    "CollectionInUseError",
    "CollectionNotFoundError",
    "CollectionSpec",
    "Document",
    "FieldType",
    "Follower",
    "InvalidDocumentError",
    "InvalidFieldError",
    "InvalidFilterError",
    "Location",
    "Ranking",
    "Store",
    "TokenIndexError",
    "View",
    "declared_fields",
    "fuse_ranks",
    "fuse_scores",
]
