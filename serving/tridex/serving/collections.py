"""The collections that a service searches, each followed to its newest version in the background."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import torch

from tridex.index import CollectionNotFoundError, Follower, Location, Store, View

from .refusals import refusing
from .service import ErrorCode, RequestError

_POLL_S = 0.05
"""How soon a write by another process shows up in searches that did not ask for it. A poll costs 20 µs a collection."""

_log = logging.getLogger(__name__)


class Collections:
    """Views of every collection in the store, on one device."""

    def __init__(self, store: Store, device: torch.device) -> None:
        self._store = store
        self._device = device
        self._opening = threading.Lock()
        self._followers: dict[Path, Follower] = {}
        """By the collection's folder: a name may lead to another one at any time."""
        self._follow()
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="tridex-follow-store", daemon=True)
        self._poller.start()
        self._maker = threading.Thread(target=self._make_lists, name="tridex-make-lists", daemon=True)
        self._maker.start()

    def locate(self, name: str) -> Location:
        """Where a collection's name or an alias leads now. Raises RequestError NOT_FOUND."""
        with refusing():
            return self._store.locate(name)

    def view(self, location: Location, min_version: int = 0, last_write: int = 0) -> View:
        """The collection's view, at `min_version` or newer, and at `last_write` where the store has reached that.

        Raises RequestError NOT_FOUND where the collection is gone, INVALID_ARGUMENT where the store has not reached
        `min_version`.
        """
        follower = self._followers.get(location.folder) or self._open(location)
        wanted = max(min_version, last_write)
        view = follower.view if follower.view.version >= wanted else follower.refresh()
        if view.version < min_version:
            raise RequestError(
                ErrorCode.INVALID_ARGUMENT,
                f"parameter min_version is {min_version}; collection {location.name!r} is at version {view.version}",
            )
        return view

    def close(self) -> None:
        """Stops following."""
        self._closed.set()
        self._poller.join()  # Not the maker: lists that are half made are of no use to anybody.

    def _open(self, location: Location) -> Follower:
        with self._opening, refusing():
            follower = self._followers.get(location.folder)
            if follower is None:
                follower = Follower(self._store, location.name, self._device)
                # Perhaps not that folder: the name may have been dropped and made anew since it was looked up.
                self._followers[follower.view.collection.folder] = follower
            return follower

    def _poll(self) -> None:
        while not self._closed.wait(_POLL_S):
            self._follow()

    def _make_lists(self) -> None:
        """Makes the inverted lists that searches by candidates have wanted."""
        while not self._closed.wait(_POLL_S):
            for follower in list(self._followers.values()):
                try:
                    follower.make_lists()
                except Exception:
                    # Its searches stay exact.
                    name = follower.view.collection.name
                    _log.exception("inverted lists of collection %r could not be made", name)

    def _follow(self) -> None:
        """Opens what is new, refreshes what is there, lets go of what was dropped."""
        there = set()
        for name in self._store.names():
            try:
                location = self._store.locate(name)
                there.add(location.folder)
                (self._followers.get(location.folder) or self._open(location)).refresh()
            except (CollectionNotFoundError, RequestError):
                continue  # dropped since it was listed
            except Exception:
                # The view stays where it is, and searches go on; the next poll tries again.
                _log.exception("collection %r could not be refreshed", name)
        for folder in self._followers.keys() - there:
            del self._followers[folder]
