"""Keeps the text index that BM25 reads up to date, behind the writes: nothing waits for it."""

from __future__ import annotations

import logging
import queue
import threading

from tridex.index import CollectionNotFoundError, Store

_log = logging.getLogger(__name__)


class TextIndexing:
    """A thread that indexes the new texts of collections that were written to; first, of all there are."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for name in store.names():
            self._written.put(name)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tridex-index-texts", daemon=True)
        self._thread.start()

    def wrote(self, name: str) -> None:
        """A collection, by its name or an alias, has new documents."""
        self._written.put(name)

    def close(self) -> None:
        """Ends after the transaction that is under way."""
        self._closed = True
        self._written.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (name := self._written.get()) is not None and not self._closed:
            try:
                self._store.open(name).index_new_texts()
            except CollectionNotFoundError:
                continue  # dropped meanwhile
            except Exception:
                # New documents are found all the same, and the next write tries again.
                _log.exception("new texts of collection %r could not be indexed", name)
