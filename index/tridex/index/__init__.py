"""The token index: documents and their codes in the store, packed segments in device memory, exact search.

What is not exported here may change: import nothing from `tridex.index.storage` or `tridex.index.resident`.
"""

from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

if TYPE_CHECKING:
    from tridex.common.fields import Fields, FieldType

    from .errors import (
        BackupError,
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
    from .ranking import RRF_K, Ranking, fuse_ranks, fuse_scores
    from .resident.budget import Extra, MemoryBudget, budget_for, check_room, needed_bytes, packed_bytes
    from .resident.follower import Follower
    from .resident.host_copy import copy_to_host, host_buffer, tensors_in
    from .resident.inverted_lists import MIN_LISTED_DOCUMENTS
    from .resident.snapshot import Found, Snapshot, rankings_of, wait_for_all
    from .resident.token_matches import TokenMatches
    from .storage.backup import KEPT, Backup, back_up, check_backups, restore
    from .storage.check import Checked, Corruption, check_store
    from .storage.collection import Collection, Size
    from .storage.document_rows import Document
    from .storage.failure_kinds import is_fault
    from .storage.field_values import FacetValue
    from .storage.fields import declared_fields, field_changes
    from .storage.inference import DocumentInference
    from .storage.metadata import check_metadata
    from .storage.root import Location, Store
    from .storage.spec import CollectionSpec
    from .storage.text_index import MAX_QUERY_WORDS
    from .storage.unfinished import Build
    from .storage.writer_lock import WriterLock

__all__ = [
    "KEPT",
    "MAX_QUERY_WORDS",
    "MIN_LISTED_DOCUMENTS",
    "RRF_K",
    "Backup",
    "BackupError",
    "Build",
    "Checked",
    "CheckpointMismatchError",
    "Collection",
    "CollectionExistsError",
    "CollectionInUseError",
    "CollectionNotFoundError",
    "CollectionSpec",
    "CorruptCollectionError",
    "Corruption",
    "Document",
    "DocumentInference",
    "Extra",
    "FacetValue",
    "FieldType",
    "Fields",
    "Follower",
    "Found",
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
    "TokenMatches",
    "WriterLock",
    "back_up",
    "budget_for",
    "check_backups",
    "check_metadata",
    "check_room",
    "check_store",
    "copy_to_host",
    "declared_fields",
    "field_changes",
    "fuse_ranks",
    "fuse_scores",
    "host_buffer",
    "is_fault",
    "needed_bytes",
    "packed_bytes",
    "rankings_of",
    "restore",
    "tensors_in",
    "wait_for_all",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "errors": [
                "BackupError",
                "CheckpointMismatchError",
                "CollectionExistsError",
                "CollectionInUseError",
                "CollectionNotFoundError",
                "CorruptCollectionError",
                "InvalidDocumentError",
                "InvalidFieldError",
                "InvalidFilterError",
                "MemoryBudgetError",
                "ReadOnlyStoreError",
                "StoreFullError",
                "StoreUnavailableError",
                "TokenIndexError",
            ],
            "ranking": ["RRF_K", "Ranking", "fuse_ranks", "fuse_scores"],
            "resident.budget": ["Extra", "MemoryBudget", "budget_for", "check_room", "needed_bytes", "packed_bytes"],
            "resident.follower": ["Follower"],
            "resident.host_copy": ["copy_to_host", "host_buffer", "tensors_in"],
            "resident.inverted_lists": ["MIN_LISTED_DOCUMENTS"],
            "resident.snapshot": ["Found", "Snapshot", "rankings_of", "wait_for_all"],
            "resident.token_matches": ["TokenMatches"],
            "storage.backup": ["KEPT", "Backup", "back_up", "check_backups", "restore"],
            "storage.check": ["Checked", "Corruption", "check_store"],
            "storage.collection": ["Collection", "Size"],
            "storage.document_rows": ["Document"],
            "storage.failure_kinds": ["is_fault"],
            "storage.field_values": ["FacetValue"],
            "storage.fields": ["Fields", "FieldType", "declared_fields", "field_changes"],
            "storage.inference": ["DocumentInference"],
            "storage.metadata": ["check_metadata"],
            "storage.root": ["Location", "Store"],
            "storage.spec": ["CollectionSpec"],
            "storage.text_index": ["MAX_QUERY_WORDS"],
            "storage.unfinished": ["Build"],
            "storage.writer_lock": ["WriterLock"],
        },
    )
