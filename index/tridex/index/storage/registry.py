"""What the names in a store stand for: one small file a name, for collections and aliases alike.

So a name stands for one thing, an alias cannot hide a collection, and giving a name another entry is one os.replace: a
reader sees the old entry or the new one, also after a crash.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tridex.index.errors import CorruptCollectionError, StoreUnavailableError

from .change_time import touch
from .durability import NotSyncedError, sync_all
from .file_errors import write_errors

_STAGED = ".staged"


@dataclass(frozen=True)
class Entry:
    """What one name stands for."""

    folder: str | None = None
    """A collection's folder, by its name in collections/."""
    alias_of: str | None = None
    """Or the collection that an alias leads to."""
    version: int = 0
    """For an alias: the collection's version when the alias was set to it."""
    built_from: str | None = None
    """What an unfinished collection is built from; None once it is finished."""
    made_from: str | None = None
    """What a finished one was built from, where a bulk build made it."""


UNREADABLE = Entry()


class Registry:
    """The names of one store. Writers hold `locked()`; readers need nothing.

    Reading raises CorruptCollectionError for a file that is no entry, StoreUnavailableError for one that could not be
    read just now.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._was_read = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other writers out, in this process and in others; a process that dies lets go.

        Raises as write_errors, as all writing does.
        """
        with ExitStack() as held:
            with self._writing():
                self._folder.mkdir(parents=True, exist_ok=True)
                lock = held.enter_context((self._folder / ".lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Keeps writers out while others look; where there is no lock yet, nobody has written."""
        with ExitStack() as held:
            with suppress(FileNotFoundError):
                fcntl.flock(held.enter_context((self._folder / ".lock").open()), fcntl.LOCK_SH)
            yield

    def stamp(self) -> int:
        """Another one whenever an entry was set or removed; 0 before the first. Editing a file by hand leaves it."""
        try:
            return self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreUnavailableError(f"the names in {self._folder} could not be read just now ({error})") from error

    def path(self, name: str) -> Path:
        """The file of that name's entry."""
        return self._folder / name

    def get(self, name: str) -> Entry | None:
        """What the name stands for now, None where it stands for nothing (18 µs)."""
        path = self.path(name)
        try:
            entry = Entry(**json.loads(path.read_bytes()))
            if not isinstance(entry.folder or entry.alias_of, str):
                raise TypeError("it says neither a folder nor a collection")
            return entry
        except FileNotFoundError:
            if self._was_read:
                self.listed()  # Raises where not this name alone is gone.
            return None
        except (ValueError, TypeError, RecursionError, IsADirectoryError) as error:
            raise CorruptCollectionError(
                f"the file {path}, which says what {name!r} stands for, is corrupt or of a newer Tridex ({error}); "
                "an alias may be set or dropped as if it were whole"
            ) from error
        except OSError as error:
            raise StoreUnavailableError(
                f"the file {path}, which says what {name!r} stands for, could not be read just now ({error}): try again"
            ) from error

    def listed(self) -> list[str]:
        """Every name, sorted. Raises StoreUnavailableError, also where all of them have vanished."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if not path.name.startswith("."))
        except FileNotFoundError as error:
            if self._was_read:
                raise StoreUnavailableError(f"{self._folder}, which holds the store's names, is gone") from error
            return []
        except OSError as error:
            raise StoreUnavailableError(f"the names in {self._folder} could not be read just now ({error})") from error
        self._was_read = True
        return names

    def all(self) -> dict[str, Entry]:
        """Every name, sorted; UNREADABLE for one whose file is corrupt or could not be read just now."""
        entries = {}
        for name in self.listed():
            try:
                entry = self.get(name)
            except (CorruptCollectionError, StoreUnavailableError):
                entry = UNREADABLE
            if entry:
                entries[name] = entry
        return entries

    def all_at_once(self) -> dict[str, Entry]:
        """As `all`, as they were at one moment."""
        while True:
            stamp = self.stamp()
            entries = self.all()
            if self.stamp() == stamp:
                return entries

    def set(self, name: str, entry: Entry) -> None:
        """Gives the name this entry, whatever it stood for before."""
        staged = self._folder / _STAGED
        with self._writing():
            with staged.open("w") as file:
                json.dump({key: value for key, value in vars(entry).items() if value}, file)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(self.path(name))
            self._sync()

    def remove(self, name: str) -> None:
        """Removes the name's entry."""
        with self._writing():
            self.path(name).unlink()
            self._sync()

    def _writing(self) -> AbstractContextManager[None]:
        return write_errors(f"the names in {self._folder}")

    def _sync(self) -> None:
        """Makes the last change of names survive a loss of power, and tells those who follow."""
        touch(self._folder)
        try:
            sync_all([self._folder, self._folder.parent])
        except NotSyncedError as error:
            raise StoreUnavailableError(
                f"the names in {self._folder} are changed and could not be synced ({error}), so that a loss of power "
                "may take that back: its disk may fail. Restart the machine, and run `tridex store check`"
            ) from error
