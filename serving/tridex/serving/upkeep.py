"""Compaction on request, and the clean-up of old versions that follows when nobody reads them any more."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from tridex.index import Collection

UNREAD_FOR = timedelta(minutes=1)
"""How long a version stays readable after the next one: searches in flight, in other processes, fetch texts from it."""

_log = logging.getLogger(__name__)


class Upkeep:
    """What ingest, the one writer, does to a collection's files."""

    def __init__(self) -> None:
        self._timers: set[threading.Timer] = set()

    def compact(self, collection: Collection) -> int:
        """Rewrites what is worth it, and frees what was rewritten as soon as it may go; the version made, or seen."""
        # What is old already goes first, so that a full disk gets room for what is rewritten.
        collection.clean_up(UNREAD_FOR)
        version = collection.compact()
        timer = threading.Timer(UNREAD_FOR.total_seconds() + 1, _clean_up, (collection,))
        timer.daemon = True
        self._timers = {other for other in self._timers if other.is_alive()} | {timer}
        timer.start()
        return version

    def close(self) -> None:
        """Leaves the rest to the next compaction."""
        for timer in self._timers:
            timer.cancel()


def _clean_up(collection: Collection) -> None:
    try:
        if collection.exists():
            freed = collection.latest().clean_up(UNREAD_FOR)
            _log.info("clean-up of collection %r freed %d bytes", collection.name, freed)
    except Exception:
        _log.exception("collection %r could not be cleaned up; its next compaction tries again", collection.name)
