"""The collections that a service searches, each followed to its newest version in the background.

Four threads keep searches from waiting: one asks the store for what is new, one loads collections that are new to this
process, one merges segments, one makes the inverted lists that searches by candidates have wanted.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import torch

from tridex.index import (
    CollectionNotFoundError,
    Follower,
    Location,
    MemoryBudget,
    MemoryBudgetError,
    Store,
    TokenIndexError,
    View,
)

from .refusals import refusing, request_error
from .service import ErrorCode, RequestError

_POLL_S = 0.05
"""How soon a write by another process shows up in searches that did not ask for it. A poll costs 20 µs a collection."""

_RETRY_S = 5.0
"""How long a collection that could not be loaded is left alone."""

_log = logging.getLogger(__name__)


class NotYetError(Exception):
    """The store has what a search must see, the device has not: the message says what there is."""


@dataclass(frozen=True)
class _Failure:
    error: RequestError
    retry_at: float


class Collections:
    """Views of every collection in the store, on one device. What cannot be loaded is logged, and named when asked for.

    `changed` is notified whenever a view is at another version, or a collection could not be loaded.
    """

    def __init__(self, store: Store, device: torch.device, budget: MemoryBudget) -> None:
        self._store = store
        self._budget = budget
        self._device = device
        self._followers: dict[Path, Follower] = {}
        """By the collection's folder: a name may lead to another one at any time."""
        self._opening: dict[Path, Future[Follower]] = {}
        self._failures: dict[Path, _Failure] = {}
        self._opener = ThreadPoolExecutor(1, "tridex-open", initializer=_stay_on_one_core)
        self.changed = threading.Condition()
        self._closed = threading.Event()
        self._wanted = threading.Event()
        self._merge = threading.Event()
        self._follow()
        while self._opening:
            wait(self._opening.values())
            self._follow()
        self._threads = [
            threading.Thread(target=work, name=f"tridex-{name}", daemon=True)
            for name, work in (("follow", self._poll), ("merge", self._merge_when_changed))
        ]
        # Not joined at the end: lists that are half made are of no use to anybody.
        maker = threading.Thread(target=self._make_lists, name="tridex-make-lists", daemon=True)
        for thread in (*self._threads, maker):
            thread.start()

    def locate(self, name: str) -> Location:
        """Where a collection's name or an alias leads now. Raises RequestError NOT_FOUND."""
        with refusing():
            return self._store.locate(name)

    def view(self, location: Location, min_version: int = 0, last_write: int = 0) -> View:
        """The collection's view, at the location's version and `min_version` or newer, and at `last_write` where the
        store has reached that. Never loads anything.

        Raises NotYetError where the view is not there yet, RequestError INVALID_ARGUMENT where the store has not
        reached `min_version`, and what kept the collection from being loaded.
        """
        follower = self._followers.get(location.folder)
        if follower is None:
            if failure := self._failures.get(location.folder):
                raise failure.error
            self._wanted.set()
            raise NotYetError(f"collection {location.name!r} is being loaded")
        view = follower.view
        wanted = max(location.version, min_version, last_write)
        if view.version < wanted:
            reached = view.collection.latest_version()
            if reached < min_version:
                raise RequestError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"parameter min_version is {min_version}; collection {location.name!r} is at version {reached}",
                )
            if view.version < min(wanted, reached):
                self._wanted.set()
                failure = self._failures.get(location.folder)
                raise NotYetError(
                    f"collection {location.name!r} is searched at version {view.version}, this search must see "
                    f"{min(wanted, reached)}{f' ({failure.error})' if failure else ''}"
                )
        return view

    def close(self) -> None:
        """Stops following."""
        self._closed.set()
        self._wanted.set()
        self._merge.set()
        for thread in self._threads:
            thread.join()
        self._opener.shutdown(cancel_futures=True)

    def _poll(self) -> None:
        _stay_on_one_core()
        while not self._closed.is_set():
            self._wanted.wait(_POLL_S)
            self._wanted.clear()
            self._follow()

    def _follow(self) -> None:
        """Refreshes what is there, has what is new loaded, lets go of what was dropped."""
        there: dict[Path, str] = {}
        for name in self._store.names():
            try:
                there[self._store.locate(name).folder] = name
            except TokenIndexError:
                continue  # dropped since it was listed, or its name's file is damaged, which `locate` says
        changed = [self._follow_one(folder, name) for folder, name in there.items()]
        gone = {folder for folder, opening in self._opening.items() if opening.done()} - there.keys()
        for folder in gone | self._followers.keys() | self._failures.keys():
            if folder not in there:
                for kept in (self._opening, self._followers, self._failures):
                    kept.pop(folder, None)
                self._budget.release(folder)
        if any(changed):
            self._merge.set()
            with self.changed:
                self.changed.notify_all()

    def _follow_one(self, folder: Path, name: str) -> bool:
        """Whether the collection has another view now, or another reason for having none."""
        try:
            if follower := self._followers.get(folder):
                before = follower.view.version
                if self._may_try(folder):
                    follower.refresh()
                    self._failures.pop(folder, None)
                return follower.view.version != before
            if opening := self._opening.get(folder):
                if not opening.done():
                    return False
                del self._opening[folder]
                follower = opening.result()
                # Perhaps not that folder: the name may have been dropped and made anew since it was looked up.
                self._followers[follower.view.collection.folder] = follower
                self._failures.pop(folder, None)
                return True
            if self._may_try(folder):
                self._opening[folder] = self._opener.submit(
                    Follower, self._store, name, self._device, budget=self._budget
                )
        except CollectionNotFoundError:
            pass  # dropped since it was listed
        except Exception as error:
            # The view, where there is one, stays where it is, and searches go on.
            _log.exception("collection %r could not be followed; next try in %g s", name, _RETRY_S)
            self._failures[folder] = _Failure(request_error(error), time.monotonic() + _RETRY_S)
            if folder not in self._followers:
                self._budget.release(folder)
            return True
        return False

    def _may_try(self, folder: Path) -> bool:
        failure = self._failures.get(folder)
        return failure is None or time.monotonic() >= failure.retry_at

    def _merge_when_changed(self) -> None:
        _stay_on_one_core()
        while not self._closed.is_set():
            self._merge.wait()
            self._merge.clear()
            for folder, follower in list(self._followers.items()):
                try:
                    while not self._closed.is_set() and follower.merge():
                        pass
                except Exception:
                    _log.exception("segments of %s could not be merged", folder)

    def _make_lists(self) -> None:
        _stay_on_one_core()
        while not self._closed.wait(_POLL_S):
            for follower in list(self._followers.values()):
                try:
                    follower.make_lists()
                except MemoryBudgetError as error:
                    _log.warning("%s", error)
                except Exception:
                    # Its searches stay exact.
                    name = follower.view.collection.name
                    _log.exception("inverted lists of collection %r could not be made", name)


def _stay_on_one_core() -> None:
    """For this thread: torch's own threads would spin on cores that searches want (tridex.kernels.cpu)."""
    torch.set_num_threads(1)
