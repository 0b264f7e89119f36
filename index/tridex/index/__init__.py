"""The token index: documents and their codes in the store, packed segments in device memory, exact search."""

from .errors import (
    CheckpointMismatchError,
    CollectionExistsError,
    CollectionNotFoundError,
    InvalidDocumentError,
    TokenIndexError,
)
from .store import Collection, CollectionSpec, Document, Store
from .view import Follower, Ranking, View

__all__ = [
    "CheckpointMismatchError",
    "Collection",
    "CollectionExistsError",
    "CollectionNotFoundError",
    "CollectionSpec",
    "Document",
    "Follower",
    "InvalidDocumentError",
    "Ranking",
    "Store",
    "TokenIndexError",
    "View",
]
