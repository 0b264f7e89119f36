"""The token index: documents and their codes in the store, packed segments in device memory, exact search."""

from .builds import Build
from .collection import Collection, Document, Size
from .errors import (
    CheckpointMismatchError,
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    DamagedCollectionError,
    InvalidDocumentError,
    InvalidFieldError,
    InvalidFilterError,
    MemoryBudgetError,
    ReadOnlyStoreError,
    StoreFullError,
    StoreUnavailableError,
    TokenIndexError,
)
from .fields import FieldType, declared_fields
from .follower import Follower
from .memory import MemoryBudget, budget_for, check_room, needed_bytes, packed_bytes
from .ranking import Ranking, fuse_ranks, fuse_scores
from .spec import CollectionSpec
from .storage import is_fault
from .store import Location, Store
from .view import View
from .writer import WriterLock

__all__ = [
    "Build",
    "CheckpointMismatchError",
    "Collection",
    "CollectionExistsError",
    "CollectionInUseError",
    "CollectionNotFoundError",
    "CollectionSpec",
    "DamagedCollectionError",
    "Document",
    "FieldType",
    "Follower",
    "InvalidDocumentError",
    "InvalidFieldError",
    "InvalidFilterError",
    "Location",
    "MemoryBudget",
    "MemoryBudgetError",
    "Ranking",
    "ReadOnlyStoreError",
    "Size",
    "Store",
    "StoreFullError",
    "StoreUnavailableError",
    "TokenIndexError",
    "View",
    "WriterLock",
    "budget_for",
    "check_room",
    "declared_fields",
    "fuse_ranks",
    "fuse_scores",
    "is_fault",
    "needed_bytes",
    "packed_bytes",
]
