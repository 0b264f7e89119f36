"""Backups of a store: consistent while others write, incremental, verified.

    DESTINATION/
      collections/FOLDER/...       files of collections, as in the store; shared by all backups
      backups/TIME/names/NAME      what each name stood for
      backups/TIME/SHA256SUMS      every file of that backup, by its path in DESTINATION (backup_list.py)

A collection's files are written once and never changed, so what an earlier backup has is not copied again, and a
version is whole once all its files are there. A backup exists once its folder has its name: before that it is not seen,
and the ones before stay as they were.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePath

from tridex.index.errors import BackupError, CollectionNotFoundError, CorruptCollectionError, StoreUnavailableError

from .backup_list import read_list, write_list
from .check import Checked, Corruption
from .checksums import SUMS, read_sums, sha256_of, write_sums
from .collection import Collection
from .durability import folders_between, sync_all
from .file_errors import storage_errors, write_errors
from .lance_session import open_dataset
from .registry import UNREADABLE, Entry, Registry
from .root import Store

KEPT = 7
"""Backups that are kept, if nothing else is asked for."""

_COLLECTIONS, _BACKUPS, _NAMES, _LOCK = "collections", "backups", "names", ".lock"
_NAMED = 5
"""Names of a store that a message has."""
_STAGED = ".staged"
_BLOCK_BYTES = 1 << 20
_ATTEMPTS = 100
"""How often a collection is begun again because files of its version were cleaned up: what is copied stays."""

Progress = Callable[[int], None]
"""Called with the bytes of every file that is copied."""


@dataclass(frozen=True)
class Backup:
    """One backup.

    Attributes:
        name: When it was made (UTC), which is its name.
        collections: How many collections are in it.
        files: How many files it consists of.
        bytes: What these take.
        copied_bytes: What of that was copied now; earlier backups had the rest.
    """

    name: str
    collections: int
    files: int
    bytes: int
    copied_bytes: int


def back_up(store: Store, destination: Path, keep: int = KEPT, progress: Progress = lambda _: None) -> Backup:
    """Makes a backup of all collections at their newest versions, and of the aliases. Unfinished builds are left out.

    What was acknowledged before is in it. Every collection is as it was at one moment, two of them perhaps at two.
    The store is only read, so others may write meanwhile. Older backups go when the new one is there.

    Args:
        store: What to back up.
        destination: A folder that holds nothing else than backups of this store; made where there is none.
        keep: How many backups are kept, the new one included; 1 at least.
        progress: Called with the bytes of every file that is copied.

    Raises:
        BackupError: The store is not there, it is not the one of the backups that are there (or has lost all its
            names), the destination is something else, another backup is being made there, or the clock is behind the
            newest one. Or the list of one that is kept is corrupt: the new backup is made then, and nothing older
            removed.
        CorruptCollectionError: A file is not what was written. No backup is made; those before stay, here and below.
        StoreFullError: No room in the destination.
        StoreUnavailableError: Something could not be read just now.
    """
    destination = destination.absolute()
    if not store.folder.is_dir():
        raise BackupError(f"the store {store.folder} is not there; expected a folder with collections")
    _check_destination(destination, store.folder)
    with write_errors(f"the backup in {destination}"), _locked(destination):
        _check_succession(destination, store)
        name = _name_now(destination)
        copying = _Copying(store, destination, progress)
        entries, sums = copying.copy_all()
        size = sum((destination / file).stat().st_size for file in sums)
        staged = destination / _BACKUPS / _STAGED
        shutil.rmtree(staged, ignore_errors=True)
        names = staged / _NAMES
        names.mkdir(parents=True)
        registry = Registry(names)
        for key, entry in entries.items():
            registry.set(key, entry)
            sums[f"{_BACKUPS}/{name}/{_NAMES}/{key}"] = sha256_of(registry.path(key))
        write_list(staged, sums)
        written = [staged / SUMS, *(destination / file for file in sums if file.startswith(_COLLECTIONS))]
        sync_all(folders_between(destination.parent, written))
        staged.rename(staged.with_name(name))
        sync_all([staged.parent])
        _remove_old(destination, keep)
    return Backup(name, _count(entries), len(sums), size, copying.copied_bytes)


def restore(destination: Path, folder: Path, name: str | None = None, progress: Progress = lambda _: None) -> Backup:
    """Makes a store of a backup: all of it, or nothing.

    Args:
        destination: Where the backups are.
        folder: The store's. Not there yet, or empty: a store is never written over.
        name: Which backup; the newest one where None.
        progress: Called with the bytes of every file that is copied.

    Raises:
        BackupError: There is no such backup, it is not what was written, or the folder holds something.
        StoreFullError: No room for the store.
    """
    destination, folder = destination.absolute(), folder.absolute()
    if folder.resolve().is_relative_to(destination.resolve()):
        raise BackupError(f"the store {folder} would be in {destination}, which holds backups and nothing else")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupError(
            f"{folder} holds something, and a restore writes over nothing; expected a folder that is empty or not "
            "there: restore into another one, and move it here when the server is stopped"
        )
    chosen = _chosen(destination, name)
    sums = read_list(destination / _BACKUPS / chosen)
    size = 0
    with write_errors(f"the store {folder}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{folder.name}.restored-"
        _remove_unlocked(folder.parent.glob(f"{prefix}*"))
        staged = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        lock = os.open(staged, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            of_collection: dict[PurePath, dict[str, str]] = {}
            targets = []
            for file, sha256 in sums.items():
                path = PurePath(file)
                if path.parts[0] == _COLLECTIONS and ".." not in path.parts:
                    target = staged / path
                    own = PurePath(*path.parts[:2])
                    of_collection.setdefault(own, {})[path.relative_to(own).as_posix()] = sha256
                else:
                    target = staged / _NAMES / path.name
                if _copied(destination / file, target) != sha256:
                    raise BackupError(f"{destination / file} is corrupt: its SHA-256 was {sha256} when it was written")
                targets.append(target)
                size += target.stat().st_size
                progress(target.stat().st_size)
            for own, known in of_collection.items():
                write_sums(staged / own / SUMS, known)
            (staged / _COLLECTIONS).mkdir(exist_ok=True)
            sync_all(folders_between(staged, [*targets, staged / _COLLECTIONS]))
            staged.rename(folder)
            sync_all([folder.parent])
        except FileNotFoundError as error:
            raise BackupError(f"backup {chosen} in {destination} is corrupt: {error.filename} is missing") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            os.close(lock)
    return Backup(chosen, len(of_collection), len(sums), size, size)


def _remove_unlocked(folders: Iterable[Path]) -> None:
    """Removes what restores that were killed have left; those under way have theirs locked."""
    for folder in folders:
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # its restore has just ended
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def check_backups(destination: Path, progress: Callable[[str], None] = lambda _: None) -> Checked:
    """Reads every file of every backup, and compares it with its SHA-256.

    Args:
        destination: Where the backups are.
        progress: Called with the name of every backup before it is read.

    Raises:
        BackupError: There is no backup.
    """
    destination = destination.absolute()
    _chosen(destination, None)
    checked = Checked()
    read: set[tuple[str, str]] = set()
    for name in _backups(destination):
        progress(name)
        try:
            sums = read_list(destination / _BACKUPS / name)
        except BackupError as error:
            checked.corrupt.append(Corruption(name, str(destination / _BACKUPS / name / SUMS), "", str(error)))
            continue
        for file, sha256 in sums.items():
            if (file, sha256) in read:
                continue
            read.add((file, sha256))
            if reason := checked.read_file(destination / file, sha256):
                if file.startswith(_COLLECTIONS):
                    reason += "; delete the file, and the next backup copies it anew, if the store still has it"
                checked.corrupt.append(Corruption(PurePath(file).parts[1], str(destination / file), "", reason))
    checked.collections = len({PurePath(file).parts[1] for file, _ in read if file.startswith(_COLLECTIONS)})
    return checked


class _Copying:
    """Copies what the destination does not have yet."""

    def __init__(self, store: Store, destination: Path, progress: Progress) -> None:
        self.copied_bytes = 0
        self._registry = Registry(store.folder / _NAMES)
        self._collections = store.folder / _COLLECTIONS
        self._destination = destination
        self._progress = progress
        self._known: dict[str, str] = {}
        """What earlier backups have, those with a corrupt list aside."""
        for name in _backups(destination):
            with suppress(BackupError):
                self._known |= read_list(destination / _BACKUPS / name)

    def copy_all(self) -> tuple[dict[str, Entry], dict[str, str]]:
        """Entries by name, and SHA-256 by path in the destination, of what is in the backup now."""
        while True:
            entries = {name: entry for name, entry in self._registry.all_at_once().items() if not entry.built_from}
            sums: dict[str, str] = {}
            try:
                for name, entry in entries.items():
                    if entry == UNREADABLE:
                        self._registry.get(name)  # raises what is wrong with it, if it still is
                        break
                    if entry.folder:
                        sums |= self._copy_collection(name, self._collections / entry.folder)
                else:
                    return entries, sums
            except CollectionNotFoundError:
                # Dropped since the names were read, or a name without a folder.
                if self._registry.get(name) == entry:
                    raise

    def _copy_collection(self, name: str, folder: Path) -> dict[str, str]:
        for _ in range(_ATTEMPTS):
            with storage_errors(name, folder):
                collection = Collection(name, open_dataset(folder))
            try:
                return self._copy_version(collection)
            except FileNotFoundError as error:
                if collection.latest_version() == collection.version:
                    raise CorruptCollectionError(
                        f"collection {name!r} cannot be backed up: its file {error.filename} is missing"
                    ) from error
        raise StoreUnavailableError(
            f"collection {name!r} could not be backed up: its files were rewritten faster than they are copied; try "
            "again when less is written, which goes on from here"
        )

    def _copy_version(self, collection: Collection) -> dict[str, str]:
        recorded = read_sums(collection.folder / SUMS)
        sums = {}
        for file in collection.files():
            source = collection.folder / file
            path = f"{_COLLECTIONS}/{collection.folder.name}/{file}"
            target = self._destination / path
            expected = self._known.get(path) or recorded.get(file)
            size = source.stat().st_size
            if expected is None or not target.exists() or target.stat().st_size != size:
                found = _copied(source, target, expected)
                if expected not in (None, found):
                    raise CorruptCollectionError(
                        f"collection {collection.name!r} cannot be backed up: the SHA-256 of {source} is {found}, and "
                        f"was {expected} when it was written; earlier backups are untouched"
                    )
                expected = found
                self.copied_bytes += size
                self._progress(size)
            sums[path] = expected
        return sums


def _check_destination(destination: Path, store: Path) -> None:
    """Raises BackupError for a folder that is not for backups, of which files would be removed."""
    here, there = destination.resolve(), store.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise BackupError(f"{destination} and the store {store} are in each other; expected a folder of its own")
    if destination.exists():
        if not destination.is_dir():
            raise BackupError(f"{destination} is a file; expected a folder for backups")
        others = {path.name for path in destination.iterdir()} - {_COLLECTIONS, _BACKUPS, _LOCK}
        if others:
            raise BackupError(f"{destination} holds {min(others)!r}; expected a folder for nothing else than backups")


def _check_succession(destination: Path, store: Store) -> None:
    """Raises BackupError where the store has none of the names in the newest backup: in time, backups of another store,
    or of a volume that is not mounted, would take the place of those that are there."""
    for newest in _backups(destination)[-1:]:
        before = Registry(destination / _BACKUPS / newest / _NAMES).listed()
        if before and not {*before} & {*Registry(store.folder / _NAMES).listed()}:
            raise BackupError(
                f"the store {store.folder} has none of the names in the newest backup, {newest} in {destination} "
                f"({', '.join(before[:_NAMED])}): expected the same store, or another folder for its backups"
            )


@contextmanager
def _locked(destination: Path) -> Iterator[None]:
    """One backup at a time."""
    destination.mkdir(parents=True, exist_ok=True)
    with (destination / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another process is making a backup in {destination}") from None
        yield


def _backups(destination: Path) -> list[str]:
    """The names of all backups, oldest first."""
    try:
        return sorted(path.name for path in (destination / _BACKUPS).iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def _name_now(destination: Path) -> str:
    """A name for a backup that is made now. Raises BackupError where it would count as older than one that is there."""
    name = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%S.%fZ")
    newest = max(_backups(destination), default="")
    if name <= newest:
        raise BackupError(
            f"the clock says {name}, and there is a backup of {newest} in {destination}: the new one would be removed "
            "as the older one; set the clock right, or remove that backup's folder where its time is wrong"
        )
    return name


def _chosen(destination: Path, name: str | None) -> str:
    names = _backups(destination)
    if not names:
        raise BackupError(f"there is no backup in {destination}; expected a folder that `tridex store backup` wrote")
    if name is not None and name not in names:
        raise BackupError(f"there is no backup {name!r} in {destination}; expected one of: {', '.join(names)}")
    return name or names[-1]


def _copied(source: Path, target: Path, expected: str | None = None) -> str:
    """Copies a file, whole or not at all; its SHA-256. Where that is not the one expected, nothing is written."""
    digest = hashlib.sha256()
    with source.open("rb") as reading:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}{_STAGED}")
        try:
            with staged.open("wb") as writing:
                while block := reading.read(_BLOCK_BYTES):
                    digest.update(block)
                    writing.write(block)
                writing.flush()
                os.fsync(writing.fileno())
            if expected in (None, digest.hexdigest()):
                staged.replace(target)
        finally:
            staged.unlink(missing_ok=True)
    return digest.hexdigest()


def _remove_old(destination: Path, keep: int) -> None:
    """Removes the oldest backups, and the files that none of those kept consists of.

    Raises BackupError where the list of one that is kept is corrupt: nothing is removed then.
    """
    backups, names = destination / _BACKUPS, _backups(destination)
    try:
        kept = {file for name in names[-keep:] for file in read_list(backups / name)}
    except BackupError as error:
        raise BackupError(
            f"backup {names[-1]} is made, and nothing older was removed, as it may be needed: {error}; remove that "
            "backup's folder, and the next one goes on"
        ) from error
    for name in names[:-keep]:
        removed = (backups / name).rename(backups / _STAGED)
        shutil.rmtree(removed)
    sync_all([backups])
    for folder, _, files in os.walk(destination / _COLLECTIONS, topdown=False):
        for file in files:
            path = Path(folder, file)
            if path.relative_to(destination).as_posix() not in kept:
                path.unlink()
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()


def _count(entries: dict[str, Entry]) -> int:
    return sum(entry.folder is not None for entry in entries.values())
