"""Making what was written survive a loss of power, before anybody is told that it is stored.

Lance leaves its files in the system's cache. So every write ends with a sync of what its version consists of and no
earlier sync has covered, many files at once, as a file system serves several in one commit of its journal; the manifest
comes last, as it names the others. Other programs' files are not waited for, as they would be with syncfs
(docs/decisions/039-what-is-acknowledged-is-synced.md).

Where the power goes between Lance's commit and the end of the sync, the version's manifest may be left empty. Nobody
was told of that version, so the next writer removes it, and the one before is the newest again. Likewise a version that
another one followed before the sync.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from .checksums import files_of
from .lance_session import open_dataset

_AT_ONCE = 8
_REMEMBERED = 1024
_VERSIONS = "_versions"

_log = logging.getLogger(__name__)


@dataclass
class _Synced:
    """What of a collection is known to be on the disk."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is synced: who waits for it finds that his version is covered."""
    version: int = -1
    files: frozenset[Path] = frozenset()


@lru_cache(maxsize=_REMEMBERED)
def _synced(_folder: Path, _inode: int) -> _Synced:
    """A collection's, which begins with nothing: a process that was killed may have left what it did not sync, and so
    may whoever put another folder in its place."""
    return _Synced()


class NotSyncedError(OSError):
    """What was written is there, and a loss of power may take it back."""


def sync_newest(folder: Path) -> None:
    """Makes the newest version of the collection in `folder`, and the folder itself, survive a loss of power.

    Raises NotSyncedError.
    """
    synced = _synced(folder, folder.stat().st_ino)
    with synced.lock:
        dataset = open_dataset(folder)
        if dataset.version == synced.version:
            return
        files = frozenset(folder / file for file in files_of(dataset, codebook=None))
        new = files - synced.files
        manifests = {file for file in new if file.parent.name == _VERSIONS}
        above_store = folder.parents[2]
        folders = folders_between(folder if synced.files else above_store, new)
        sync_all((new - manifests) | (folders - {folder / _VERSIONS}))
        sync_all({*manifests, folder / _VERSIONS})
        synced.version, synced.files = dataset.version, files


def sync_all(paths: Iterable[Path]) -> None:
    """Makes files and folders survive a loss of power: the content of files, the names in folders."""
    with ThreadPoolExecutor(_AT_ONCE, "sync") as threads:
        list(threads.map(_sync, paths))


def folders_between(top: Path, files: Iterable[Path]) -> set[Path]:
    """The folders that lead from `top`, which is one of them, to these files below it."""
    return {folder for file in files for folder in file.parents if folder.is_relative_to(top)}


def remove_torn_versions(folder: Path) -> None:
    """Removes the versions of the collection in `folder` of which a loss of power left an empty manifest.

    For the one that may write to it. Where no version is left whole, nothing is removed: it is corrupt.
    """
    manifests = {}
    for path in folder.glob(f"{_VERSIONS}/*.manifest"):
        with suppress(FileNotFoundError):  # removed meanwhile, as a version that is not read any more
            manifests[path] = path.stat().st_size
    torn = [path for path, size in manifests.items() if size == 0]
    if len(torn) == len(manifests):
        return
    for path in torn:
        _log.warning("%s, which a loss of power left empty, is removed: nothing acknowledged needs it", path)
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    try:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        # A folder above the store may be closed to this user, and some file systems (SMB) sync no folders.
        if error.errno not in (errno.EACCES, errno.EINVAL) or not path.is_dir():
            raise NotSyncedError(error.errno, error.strerror, str(path)) from error
