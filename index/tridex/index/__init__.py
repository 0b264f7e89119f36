"""The token index: documents and their codes in the store, packed segments in device memory, exact search."""

from .errors import (
    CheckpointMismatchError,
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    CorruptCollectionError,
    InvalidDocumentError,
    InvalidFieldError,
    InvalidFilterError,
    MemoryBudgetError,
    ReadOnlyStoreError,
    StoreFullError,
    StoreUnavailableError,
    TokenIndexError,
)
from .ranking import Ranking, fuse_ranks, fuse_scores
from .resident.budget import MemoryBudget, budget_for, check_room, needed_bytes, packed_bytes
from .resident.follower import Follower
from .resident.inverted_lists import MIN_DOCUMENTS as MIN_CANDIDATE_DOCUMENTS
from .resident.snapshot import Snapshot
from .storage.builds import Build
from .storage.collection import Collection, Document, Size
from .storage.fields import Fields, FieldType, declared_fields
from .storage.file_errors import is_fault
from .storage.metadata import check_metadata
from .storage.spec import CollectionSpec
from .storage.store import Location, Store
from .storage.writer_lock import WriterLock

__all__ = [
    "MIN_CANDIDATE_DOCUMENTS",
    "Build",
    "CheckpointMismatchError",
    "Collection",
    "CollectionExistsError",
    "CollectionInUseError",
    "CollectionNotFoundError",
    "CollectionSpec",
    "CorruptCollectionError",
    "Document",
    "FieldType",
    "Fields",
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
    "Snapshot",
    "Store",
    "StoreFullError",
    "StoreUnavailableError",
    "TokenIndexError",
    "WriterLock",
    "budget_for",
    "check_metadata",
    "check_room",
    "declared_fields",
    "fuse_ranks",
    "fuse_scores",
    "is_fault",
    "needed_bytes",
    "packed_bytes",
]
