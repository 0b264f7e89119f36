"""What can go wrong with files, as the index's own errors: a full disk, a damaged collection, one that is dropped."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lance
import pyarrow as pa

from tridex.index.errors import (
    CollectionNotFoundError,
    CorruptCollectionError,
    ReadOnlyStoreError,
    StoreFullError,
    StoreUnavailableError,
)

# Lance passes the system's words on, and no number beside them.
_FULL = re.compile(r"os error (27|28|122)\b|No space left|File too large|quota exceeded", re.IGNORECASE)
"""EFBIG, ENOSPC, EDQUOT."""

_FORBIDDEN = re.compile(r"os error (1|13|30)\b|Operation not permitted|Permission denied|Read-only file system")
"""EPERM, EACCES, EROFS."""

_PASSING = re.compile(
    r"os error (4|5|11|12|23|24|110|116)\b|Interrupted system call|Input/output error|Resource temporarily unavailable|"
    r"Cannot allocate memory|Too many open files|timed out|Stale file handle",
    re.IGNORECASE,
)
"""EINTR, EIO, EAGAIN, ENOMEM, ENFILE, EMFILE, ETIMEDOUT, ESTALE: they tell of the machine, not of the files."""

_SOURCE_LINE = re.compile(r",? ?/\S+\.rs:\d+:\d+")

_INDEX_CACHE_BYTES = 32 * 2**20
_METADATA_CACHE_BYTES = 8 * 2**20
"""What Lance keeps in the host's memory of BM25 indexes and lists of files, of all collections together. What belongs
to versions that are gone stays until the cache is full, some 50 kB a version: so it is full within minutes and grows no
more. Lance's own are 6 GiB and 1 GiB, for every dataset that is opened."""

_VERDICT_S = 10.0
"""How long it is remembered whether a collection's files are whole: looking takes 1 ms a file."""


class _Stored(Protocol):
    name: str

    @property
    def folder(self) -> Path: ...


@cache
def _session() -> Any:
    """What all datasets of this process share, made when the first one is opened: a fork before that is safe."""
    return lance.Session(  # type: ignore[attr-defined]
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )


def open_dataset(folder: str | Path) -> lance.LanceDataset:
    """The dataset in that folder at its newest version."""
    return lance.dataset(str(folder), session=_session())


def forget_cached() -> None:
    """For a store whose files were replaced, as by a backup: what is cached of its versions may be another's now."""
    _session.cache_clear()


def is_fault(error: BaseException) -> bool:
    """Whether it tells of something that failed, not of a program that should end; a panic in Lance is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _is_of_storage(error: BaseException) -> bool:
    """Whether Lance may have raised it: OSError, ValueError and Arrow's errors for files that are truncated,
    overwritten or missing, RuntimeError, TypeError or a panic where it fails itself."""
    kinds = (OSError, ValueError, RuntimeError, TypeError, pa.ArrowException)
    return isinstance(error, kinds) or (is_fault(error) and not isinstance(error, Exception))


@contextmanager
def storage_errors(name: str, folder: Path, *, writes: bool = False) -> Iterator[None]:
    """Raises one of the index's errors for what Lance raises, by what can be done about it.

    CollectionNotFoundError where the collection was dropped meanwhile; StoreFullError; ReadOnlyStoreError for a write
    that this process may not make; CorruptCollectionError where opening the files anew fails too, and only there, as
    its advice is to replace them; StoreUnavailableError for the rest.
    """
    try:
        yield
    except BaseException as error:
        if not _is_of_storage(error):
            raise
        if not _exists(folder):
            raise CollectionNotFoundError(f"collection {name!r} was dropped just now") from error
        reason = _reason(error)
        if _FULL.search(reason):
            raise StoreFullError(
                f"collection {name!r}: no room for this write in {folder}, nothing of it is stored ({reason}); free "
                "some space and send it again"
            ) from error
        if writes and _FORBIDDEN.search(reason):
            raise ReadOnlyStoreError(
                f"collection {name!r} cannot be written to ({reason}): this server may read {folder}, not write there"
            ) from error
        damage = None if _PASSING.search(reason) or _FORBIDDEN.search(reason) else _damage(folder)
        if damage is None:
            raise StoreUnavailableError(
                f"collection {name!r} could not be read or written just now ({reason}); its files in {folder} are "
                "not known to be damaged, nothing of it is lost: try again"
            ) from error
        raise CorruptCollectionError(
            f"collection {name!r} cannot be read or written ({damage}): its files in {folder} are damaged; put a "
            "backup of them there, or drop the collection and index its documents again"
        ) from error


@contextmanager
def write_errors(what: str) -> Iterator[None]:
    """Raises StoreFullError, ReadOnlyStoreError or StoreUnavailableError for an OSError in writing `what`."""
    try:
        yield
    except OSError as error:
        reason = _reason(error)
        if _FULL.search(reason):
            raise StoreFullError(f"{what} cannot be written ({reason}); free some space and try again") from error
        if _FORBIDDEN.search(reason):
            raise ReadOnlyStoreError(
                f"{what} cannot be written ({reason}): this process may read the store, not write to it"
            ) from error
        raise StoreUnavailableError(f"{what} could not be written ({reason})") from error


F = TypeVar("F", bound=Callable[..., Any])


def guarded(method: F) -> F:
    """A method of a collection that reads its files: raises as storage_errors."""

    @wraps(method)
    def call(stored: _Stored, *args: Any, **options: Any) -> Any:
        with storage_errors(stored.name, stored.folder):
            return method(stored, *args, **options)

    return call  # type: ignore[return-value]


def writing(method: F) -> F:
    """A method of a collection that may make a version: raises as storage_errors, and tells those who follow."""

    @wraps(method)
    def call(stored: _Stored, *args: Any, **options: Any) -> Any:
        with storage_errors(stored.name, stored.folder, writes=True):
            result = method(stored, *args, **options)
        touch(stored.folder.parent)
        return result

    return call  # type: ignore[return-value]


def touch(folder: Path) -> None:
    """Says that something in this folder changed, to those who look at its time of change alone.

    To the nanosecond: the system itself sets that time in steps of milliseconds, in which a second change would hide.
    """
    now = time.time_ns()
    try:
        os.utime(folder, ns=(now, now))
    except OSError:
        return  # Not the owner, perhaps: those who follow look at every collection now and then.


def _exists(folder: Path) -> bool:
    """Whether it is there, or cannot be asked for."""
    try:
        return folder.exists()
    except OSError:
        return True


def _reason(error: BaseException) -> str:
    return _SOURCE_LINE.sub("", str(error)) or type(error).__name__


_verdicts: dict[Path, tuple[float, str | None]] = {}
"""By folder: when it was looked at, and what was found."""


def _damage(folder: Path) -> str | None:
    """What keeps the newest version from being read, by a session that has nothing cached: its list of files, each
    file's ends, all marks of deleted rows. None where nothing does."""
    seen_at, found = _verdicts.get(folder, (-_VERDICT_S, None))
    if time.monotonic() < seen_at + _VERDICT_S:
        return found
    found = None
    try:
        dataset = lance.dataset(str(folder))
        dataset.validate()  # type: ignore[no-untyped-call]
        for fragment in dataset.get_fragments():
            if rows := fragment.count_rows():
                fragment.take([0, rows - 1])
    except BaseException as error:
        if not _is_of_storage(error):
            raise
        reason = _reason(error)
        # What Lance raises where it fails itself tells nothing of the files.
        tells = isinstance(error, (OSError, ValueError, pa.ArrowException))
        found = reason if tells and not _PASSING.search(reason) and not _FORBIDDEN.search(reason) else None
    _verdicts.pop(folder, None)
    _verdicts[folder] = (time.monotonic(), found)
    while len(_verdicts) > 64:
        _verdicts.pop(next(iter(_verdicts)), None)
    return found
