"""What can be wrong with a request to the index, or with its files.

TokenIndexError
├── CollectionNotFoundError   no collection or alias of that name
├── CollectionExistsError     the name is taken
├── CollectionInUseError      dropping a collection that an alias leads to
├── CorruptCollectionError    files that are truncated, overwritten or missing
├── StoreUnavailableError     files that could not be read just now, and are not known to be corrupt
├── StoreFullError            no room for a write on the disk
├── ReadOnlyStoreError        this process may only read: another server writes, or the file system refuses
├── MemoryBudgetError         no room for a collection in the device's memory
├── CheckpointMismatchError   token embeddings of another checkpoint than the collection's
├── BackupError               a backup that is not whole, or a folder that is not for backups or not for a restore
├── InvalidFieldError         a declaration of metadata fields that is not valid
├── InvalidDocumentError      a document that cannot be stored
└── InvalidFilterError        a filter that cannot be evaluated
"""

from __future__ import annotations

from collections.abc import Callable

from tridex.common import TridexError

MayKnow = Callable[[str], bool]
"""Whether somebody may know that there is a collection or an alias of a name."""


class TokenIndexError(TridexError):
    """The base of the index's errors.

    `others` ends the message with names that were not asked about, of those that somebody may know.
    """

    def __init__(self, message: str, others: Callable[[MayKnow], str] | None = None) -> None:
        super().__init__(message)
        self._others = others

    def __str__(self) -> str:
        return self.told(lambda _: True)

    def told(self, may_know: MayKnow) -> str:
        """The message for somebody who may know of some names alone."""
        return super().__str__() + (self._others(may_know) if self._others else "")


class CollectionNotFoundError(TokenIndexError):
    """No collection or alias of that name."""


class CollectionExistsError(TokenIndexError):
    """A collection or an alias of that name is there already."""


class CollectionInUseError(TokenIndexError):
    """An alias leads to the collection, so it cannot be dropped."""


class CorruptCollectionError(TokenIndexError):
    """Files of the collection, or of its name, cannot be read; the other collections can."""


class StoreUnavailableError(TokenIndexError):
    """Files could not be read or written just now, and are not known to be corrupt: trying again is safe."""


class ReadOnlyStoreError(TokenIndexError):
    """This process may only read the store: another one writes to it, or its file system refuses writes."""


class StoreFullError(TokenIndexError):
    """The disk has no room for a write; nothing of the write is stored."""


class MemoryBudgetError(TokenIndexError):
    """The device's memory has no room for a collection, or for what should be added to it."""


class CheckpointMismatchError(TokenIndexError):
    """The collection holds token embeddings of another checkpoint: scores against it would mean nothing."""


class BackupError(TokenIndexError):
    """A backup that is not whole, or a folder that is not for backups or not for a restore."""


class InvalidFieldError(TokenIndexError):
    """A declaration of metadata fields that is not valid."""


class InvalidDocumentError(TokenIndexError):
    """A document that cannot be stored."""


class InvalidFilterError(TokenIndexError):
    """A filter that is malformed, beyond a limit, or about a field that the collection does not declare."""
