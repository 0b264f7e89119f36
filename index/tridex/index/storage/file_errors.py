"""What Lance and the file system raise, as the index's own errors, told apart by what can be done about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tridex.index.errors import (
    CollectionNotFoundError,
    CorruptCollectionError,
    ReadOnlyStoreError,
    StoreFullError,
    StoreUnavailableError,
)

from .change_time import touch
from .corruption import find_corruption
from .durability import NotSyncedError, sync_newest
from .failure_kinds import is_disk_full, is_forbidden, is_of_machine, is_of_storage, reason_of


class _Stored(Protocol):
    name: str

    @property
    def folder(self) -> Path: ...


@contextmanager
def storage_errors(name: str, folder: Path, *, writes: bool = False) -> Iterator[None]:
    """Translates what Lance raises while it reads or writes one collection.

    Args:
        name: The collection's name, for messages.
        folder: Where its dataset is.
        writes: Whether a refusal by the file system is one of a write.

    Raises:
        CollectionNotFoundError: It was dropped meanwhile.
        StoreFullError: No room for the write, of which nothing is stored.
        ReadOnlyStoreError: A write that this process may not make.
        CorruptCollectionError: Opening the files anew fails too. Only there, as the advice is to replace them.
        StoreUnavailableError: The rest: trying again is safe.
    """
    try:
        yield
    except BaseException as error:
        if not is_of_storage(error):
            raise
        if not _exists(folder):
            raise CollectionNotFoundError(f"collection {name!r} was dropped just now") from error
        reason = reason_of(error)
        if is_disk_full(reason):
            raise StoreFullError(
                f"collection {name!r}: no room for this write in {folder}, nothing of it is stored ({reason}); free "
                "some space and send it again"
            ) from error
        if writes and is_forbidden(reason):
            raise ReadOnlyStoreError(
                f"collection {name!r} cannot be written to ({reason}): this server may read {folder}, not write there"
            ) from error
        corruption = None if is_of_machine(reason) else find_corruption(folder)
        if corruption is None:
            raise StoreUnavailableError(
                f"collection {name!r} could not be read or written just now ({reason}); its files in {folder} are "
                "not known to be corrupt, nothing of it is lost: try again"
            ) from error
        raise CorruptCollectionError(
            f"collection {name!r} cannot be read or written ({corruption}): its files in {folder} are corrupt; put a "
            "backup of them there, or drop the collection and index its documents again"
        ) from error


@contextmanager
def write_errors(what: str) -> Iterator[None]:
    """Raises StoreFullError, ReadOnlyStoreError or StoreUnavailableError for an OSError in writing `what`."""
    try:
        yield
    except OSError as error:
        reason = reason_of(error)
        if is_disk_full(reason):
            raise StoreFullError(f"{what} cannot be written ({reason}); free some space and try again") from error
        if is_forbidden(reason):
            raise ReadOnlyStoreError(
                f"{what} cannot be written ({reason}): this process may read the store, not write to it"
            ) from error
        raise StoreUnavailableError(f"{what} could not be written ({reason})") from error


F = TypeVar("F", bound=Callable[..., Any])


def reading(method: F) -> F:
    """A method of a collection that reads its files: raises as storage_errors."""

    @wraps(method)
    def call(stored: _Stored, *args: Any, **options: Any) -> Any:
        with storage_errors(stored.name, stored.folder):
            return method(stored, *args, **options)

    return call  # type: ignore[return-value]


def writing(method: F) -> F:
    """A method of a collection that may make a version: raises as storage_errors, and tells those who follow.

    What it made survives a loss of power when it returns.
    """

    @wraps(method)
    def call(stored: _Stored, *args: Any, **options: Any) -> Any:
        with storage_errors(stored.name, stored.folder, writes=True):
            result = method(stored, *args, **options)
            touch(stored.folder.parent)
            try:
                sync_newest(stored.folder)
            except NotSyncedError as error:
                raise StoreUnavailableError(
                    f"collection {stored.name!r}: what was written is there and could not be synced ({error}), so that "
                    "a loss of power may take it back: its disk may fail. Restart the machine, run `tridex store "
                    "check`, and send it again"
                ) from error
        return result

    return call  # type: ignore[return-value]


def _exists(folder: Path) -> bool:
    """Whether it is there, or cannot be asked for."""
    try:
        return folder.exists()
    except OSError:
        return True
