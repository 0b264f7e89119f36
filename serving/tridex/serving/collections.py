"""The collections that a service searches, each followed to its newest version in the background."""

from __future__ import annotations

import logging
import threading

import torch

from tridex.index import CollectionNotFoundError, Follower, Store, View

from .service import ErrorCode, RequestError

_POLL_S = 0.05
"""How soon a write by another process shows up in searches that did not ask for it. A poll costs 12 µs a collection."""

_log = logging.getLogger(__name__)


class Collections:
    """Views of every collection in the store, on one device."""

    def __init__(self, store: Store, device: torch.device) -> None:
        self._store = store
        self._device = device
        self._opening = threading.Lock()
        self._followers = {name: Follower(store, name, device) for name in store.names()}
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="tridex-follow-store", daemon=True)
        self._poller.start()

    def view(self, name: str, min_version: int = 0) -> View:
        """The collection's view, at `min_version` or newer.

        Raises RequestError NOT_FOUND where there is no such collection, INVALID_ARGUMENT where the store has not
        reached that version.
        """
        follower = self._followers.get(name) or self._open(name)
        view = follower.view if follower.view.version >= min_version else follower.refresh()
        if view.version < min_version:
            raise RequestError(
                ErrorCode.INVALID_ARGUMENT,
                f"parameter min_version is {min_version}; collection {name!r} is at version {view.version}",
            )
        return view

    def close(self) -> None:
        """Stops following."""
        self._closed.set()
        self._poller.join()

    def _open(self, name: str) -> Follower:
        with self._opening:
            if name not in self._followers:
                try:
                    self._followers[name] = Follower(self._store, name, self._device)
                except CollectionNotFoundError as error:
                    raise RequestError(ErrorCode.NOT_FOUND, str(error)) from error
            return self._followers[name]

    def _poll(self) -> None:
        while not self._closed.wait(_POLL_S):
            for name in set(self._store.names()) | set(self._followers):
                try:
                    (self._followers.get(name) or self._open(name)).refresh()
                except Exception:
                    # The view stays where it is, and searches go on; the next poll tries again.
                    _log.exception("collection %r could not be refreshed", name)
