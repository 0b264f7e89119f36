"""What ingest, the one writer, does behind the writes: nothing waits for it longer than for one transaction.

New texts get into the index that BM25 reads, small and half deleted files are rewritten, ids that an earlier version
stored twice are repaired, and versions go, with their files, when nobody reads them any more. At start every collection
is looked after once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tridex.index import Collection, CollectionNotFoundError, Store, TokenIndexError, WriterLock, is_fault
from tridex.serving.backend.background import Background, Told

from .admission import return_freed

UNREAD_FOR = timedelta(minutes=1)
"""How long a version stays readable after the next one: searches in flight, in other processes, fetch texts from it."""

_GATHER_S = 0.2
"""Writes that come together are looked after together."""

_RETRY_S = 10.0
"""How long a collection is left alone whose files could not be looked after."""

_LONG_S = 900.0
"""More than it takes to look after a collection."""

_log = logging.getLogger(__name__)


class Maintenance:
    """A thread that looks after collections that were written to. It does nothing as long as another process writes."""

    def __init__(self, store: Store, writer: WriterLock) -> None:
        self._store = store
        self._writer = writer
        self._tending = threading.Lock()
        """Held while files are rewritten: two rewrites of the same ones would be in each other's way."""
        self._due: dict[str, float] = {}
        """When each collection is looked after next, by the monotonic clock."""
        self._old: dict[str, float] = {}
        """When the versions that are old now can go."""
        self._seen = False
        """Whether every collection was looked after once."""
        self._repaired: set[Path] = set()
        self._told = Told()
        self._thread = Background("maintenance", "looks after the store's files", self._tend, stuck_after_s=_LONG_S)
        self._thread.start()

    def wrote(self, name: str) -> None:
        """A collection, by its name or an alias, has another version."""
        self._due.setdefault(name, time.monotonic() + _GATHER_S)
        self._thread.wake()

    def compact(self, collection: Collection) -> int:
        """Rewrites everything that is worth it, while writes wait; the version made, or seen.

        Not to be called within a transaction. Raises ReadOnlyStoreError.
        """
        with self._tending, self._writer:
            # What is old already goes first, so that a full disk gets room for what is rewritten.
            collection.clean_up(UNREAD_FOR)
            version = collection.latest().compact()
        self.wrote(collection.name)
        return version

    def trouble(self) -> str | None:
        """What keeps the store's files from being looked after, None while nothing does."""
        return self._thread.trouble()

    def close(self) -> None:
        """Ends after the transaction that is under way; the rest is left to the next start."""
        self._thread.close()

    def _tend(self) -> float | None:
        """Looks after what is due; the seconds until more is."""
        if not self._writer.held:
            return None
        if not self._seen:
            for name in self._store.names():
                self._due.setdefault(name, 0.0)
            self._seen = True
        for name in self._take(self._due):
            self._try(name, self._due, self._look_after)
        for name in self._take(self._old):
            self._try(name, self._old, self._clean_up)
        times = [*list(self._due.values()), *list(self._old.values())]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _take(self, schedule: dict[str, float]) -> list[str]:
        now = time.monotonic()
        names = [name for name, at in list(schedule.items()) if at <= now]
        for name in names:
            del schedule[name]
        return names

    def _try(self, name: str, schedule: dict[str, float], work: Callable[[str], None]) -> None:
        if self._thread.closed:
            return
        try:
            work(name)
        except CollectionNotFoundError:
            pass  # dropped meanwhile
        except BaseException as error:
            if not is_fault(error):
                raise
            # Nothing that is stored is lost, and no search waits for it.
            message = f"the files of collection {name!r} could not be looked after; next try in {_RETRY_S:g} s"
            self._told.tell((work, name), error, message, trace=not isinstance(error, TokenIndexError))
            schedule.setdefault(name, time.monotonic() + _RETRY_S)
        else:
            self._told.over((work, name))

    def _look_after(self, name: str) -> None:
        folder = self._store.resolve(name).folder
        if folder not in self._repaired:
            with self._tending, self._writer:
                self._store.open(name).repair_duplicates()
            self._repaired.add(folder)
        more = True
        while more and not self._thread.closed:
            with self._tending, self._writer:
                more = self._store.open(name).compact_some()
        with self._tending:
            self._store.open(name).index_new_texts()
        self._expect_old(name)

    def _expect_old(self, name: str) -> None:
        self._old.setdefault(name, time.monotonic() + UNREAD_FOR.total_seconds() + 1)

    def _clean_up(self, name: str) -> None:
        collection = self._store.open(name)
        freed = collection.clean_up(UNREAD_FOR)
        _log.debug("clean-up of collection %r freed %d bytes", name, freed)
        if len(collection.dataset.versions()) > 1:  # made since this was scheduled
            self._expect_old(name)
        return_freed()
