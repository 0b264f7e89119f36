"""Maintenance of the store's files by ingest, the one writer: writes wait for one of its transactions at most.

New texts are added to the text index that BM25 reads, small and half deleted files are rewritten, ids that an earlier
version stored twice are repaired, SHA-256 sums of new files are recorded, and old versions are removed with their files
when no search reads them any more. At start every collection is maintained once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tridex.index import Collection, CollectionNotFoundError, Store, TokenIndexError, WriterLock, is_fault
from tridex.serving.backend.background import Background, LoggedErrors
from tridex.serving.metrics.registry import Metrics
from tridex.serving.metrics.table import COMPACTIONS, MAINTENANCE_FAILURES

from .admission import return_freed

UNREAD_FOR = timedelta(minutes=1)
"""How long a version stays readable after the next one: searches in flight, in other processes, fetch texts from it."""

_GATHER_S = 0.2
"""Writes that come within this time are maintained together."""

_RETRY_S = 10.0
"""Until a collection whose maintenance failed is tried again."""

_SUMMED_BYTES = 2**30
"""Files without a sum that are read at a time: a store of an earlier version has many."""

_LONG_S = 900.0
"""More than the maintenance of a collection takes."""

_log = logging.getLogger(__name__)


class Maintenance:
    """A thread that maintains collections after writes. It does nothing while another process is the writer."""

    def __init__(self, store: Store, writer: WriterLock, metrics: Metrics) -> None:
        self._metrics = metrics
        self._store = store
        self._writer = writer
        self._rewriting = threading.Lock()
        """Held while files are rewritten: two rewrites of the same ones would conflict."""
        self._due: dict[str, float] = {}
        """When each collection is maintained next, by the monotonic clock."""
        self._old: dict[str, float] = {}
        """When the versions that are old now can be removed."""
        self._started = False
        """Whether every collection has been scheduled once."""
        self._repaired: set[Path] = set()
        self._errors = LoggedErrors()
        self._thread = Background("maintenance", "maintains the store's files", self._maintain, stuck_after_s=_LONG_S)
        self._thread.start()

    def wrote(self, name: str) -> None:
        """A collection, by its name or an alias, has another version."""
        self._due.setdefault(name, time.monotonic() + _GATHER_S)
        self._thread.wake()

    def compact(self, collection: Collection) -> int:
        """Rewrites all files that are worth it, while writes wait; the version made, or seen.

        Not to be called within a transaction. Raises ReadOnlyStoreError.
        """
        with self._rewriting, self._writer:
            # Old versions first, so that a full disk gets room for the rewritten files.
            collection.clean_up(UNREAD_FOR)
            version = collection.latest().compact()
        self._metrics.add(COMPACTIONS)
        self.wrote(collection.name)
        return version

    def trouble(self) -> str | None:
        """What keeps the store's files from being maintained, None while nothing does."""
        return self._thread.trouble()

    def close(self) -> None:
        """Ends after the current transaction; the rest is left to the next start."""
        self._thread.close()

    def _maintain(self) -> float | None:
        """Maintains what is due; the seconds until more is."""
        if not self._writer.held:
            return None
        if not self._started:
            for name in self._store.names():
                self._due.setdefault(name, 0.0)
            self._started = True
        for name in self._take(self._due):
            self._try(name, self._due, self._maintain_files)
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
            self._metrics.add(MAINTENANCE_FAILURES)
            # Nothing that is stored is lost, and no search waits for it.
            message = f"the files of collection {name!r} could not be maintained; next try in {_RETRY_S:g} s"
            self._errors.log((work, name), error, message, trace=not isinstance(error, TokenIndexError))
            schedule.setdefault(name, time.monotonic() + _RETRY_S)
        else:
            self._errors.resolved((work, name))

    def _maintain_files(self, name: str) -> None:
        folder = self._store.resolve(name).folder
        if folder not in self._repaired:
            with self._rewriting, self._writer:
                self._store.open(name).repair_duplicates()
            self._repaired.add(folder)
        more = True
        while more and not self._thread.closed:
            with self._rewriting, self._writer:
                more = self._store.open(name).compact_some()
            if more:
                self._metrics.add(COMPACTIONS)
        with self._rewriting:
            self._store.open(name).index_new_texts()
        if self._store.open(name).record_checksums(_SUMMED_BYTES):
            self._due.setdefault(name, time.monotonic())
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
