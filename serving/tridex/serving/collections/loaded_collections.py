"""The collections that a service searches, each followed to its newest version in the background.

Four threads keep searches from waiting: one asks the store for new versions, one loads collections that are new to this
process, one merges segments, one makes what searches have asked for and do without until then: inverted lists, on a GPU
search plans, on a CPU approximations.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from tridex.index import (
    CollectionNotFoundError,
    Extra,
    Follower,
    Location,
    MemoryBudget,
    Snapshot,
    Store,
    TokenIndexError,
    is_fault,
)
from tridex.serving.backend.background import Background, LoggedErrors
from tridex.serving.backend.error_translation import request_error, translated_errors
from tridex.serving.backend.service import ErrorCode, RequestError
from tridex.serving.metrics.registry import Gauge, Metrics
from tridex.serving.metrics.table import (
    BUDGET,
    BUDGET_USED,
    COLLECTIONS,
    DELETED_ROWS,
    DEVICE_BYTES,
    DOCUMENTS,
    LOAD_FAILURES,
    TOKENS,
    VERSIONS_BEHIND,
    Metric,
)

from .admission import return_freed
from .compiled_codecs import CompiledCodecs
from .device_memory import take

_POLL_S = 0.05
"""How soon a write shows up in searches that do not wait for it. The times of two folders show whether there is one."""

_PASS_S = 2.0
"""How often every name and collection is checked nevertheless: 10 ms for 600 empty ones. The times of folders do not
show every change: a file system may report them late."""

_RETRY_S = 5.0
"""Until a collection that could not be loaded is tried again."""

_STALE_S = 60.0
"""How long searches may be behind the store because it cannot be read."""

_EXTRAS_S = 0.5
"""How often it is checked what searches do without."""

_RETURN_S = 30.0
"""How often freed memory is returned to the system, as long as collections change, and removed files are closed."""

_LONG_S = 900.0
"""More than it takes to load a collection, to merge its segments, to build its lists or to approximate a segment."""


class NotYetError(Exception):
    """The device has not loaded the version that a search must see; the message says which it has."""


@dataclass(frozen=True)
class _Failure:
    code: ErrorCode
    message: str
    since: float
    """The first of those in a row."""
    retry_at: float

    def error(self) -> RequestError:
        """A new error each time: one that is raised repeatedly keeps the frames of every place that raised it."""
        return RequestError(self.code, self.message)


class LoadedCollections:
    """Snapshots of every collection in the store, on one device.

    A collection that cannot be loaded is logged, and searches of it are told why.

    `changed` is notified whenever a snapshot is at another version, or a collection could not be loaded.
    """

    def __init__(self, store: Store, device: torch.device, budget: MemoryBudget, metrics: Metrics) -> None:
        self._store = store
        self._budget = budget
        self._device = device
        self._metrics = metrics
        self._codecs = CompiledCodecs(device)
        self._names: dict[str, Path] = {}
        """The folder of each collection's name, as it could be read last."""
        self._followers: dict[Path, Follower] = {}
        """By the collection's folder: a name may lead to another one at any time."""
        self._failures: dict[Path, _Failure] = {}
        self._errors = LoggedErrors()
        self._extra_errors = LoggedErrors()
        self._merge_errors = LoggedErrors()
        self._to_open: dict[Path, str] = {}
        self._to_merge: set[Path] = set()
        self._wanted: set[Path] = set()
        """Collections of which searches wait for a version that the store has."""
        self._stamp = (0, 0)
        self._next_pass = 0.0
        self._next_return = 0.0
        self._next_closing = 0.0
        self.changed = threading.Condition()
        self._following = Background("follow", "follows the store", self._follow, stuck_after_s=60)
        self._opening = Background("open", "loads collections", self._open_all, stuck_after_s=_LONG_S)
        self._merging = Background("merge", "merges segments", self._merge_all, stuck_after_s=_LONG_S)
        self._making = Background(
            "make-extras", "makes what searches do without", self._make_extras, stuck_after_s=_LONG_S
        )
        take(budget, device)
        metrics.gauges(self._gauges)
        self._list_names()
        self._open(self._by_folder())
        for thread in self._threads:
            thread.start()

    def resolve(self, name: str) -> Location:
        """Where a collection's name or an alias leads now. Raises RequestError NOT_FOUND."""
        with translated_errors():
            return self._store.resolve(name)

    def snapshot(self, location: Location, min_version: int = 0, last_write: int = 0) -> Snapshot:
        """The collection's snapshot, at the location's version and `min_version` or newer, and at `last_write` where
        the store has reached that. Never loads anything.

        Raises NotYetError where that version is not loaded yet, RequestError INVALID_ARGUMENT where the store has not
        reached `min_version`, and what kept the collection from being loaded.
        """
        follower = self._followers.get(location.folder)
        if follower is None:
            if failure := self._failures.get(location.folder):
                raise failure.error()
            self._want(location.folder)
            raise NotYetError(f"collection {location.name!r} is being loaded")
        snapshot = follower.snapshot
        wanted = max(location.version, min_version, last_write)
        if snapshot.version < wanted:
            with translated_errors():
                reached = snapshot.collection.latest_version()
            if reached < min_version:
                raise RequestError(
                    ErrorCode.INVALID_ARGUMENT,
                    f"parameter min_version is {min_version}; collection {location.name!r} is at version {reached}",
                )
            if snapshot.version < min(wanted, reached):
                self._want(location.folder)
                failure = self._failures.get(location.folder)
                raise NotYetError(
                    f"collection {location.name!r} is searched at version {snapshot.version}, this search must see "
                    f"{min(wanted, reached)}{f' ({failure.message})' if failure else ''}"
                )
        return snapshot

    def trouble(self) -> str | None:
        """What keeps snapshots from following the store, None while nothing does.

        A collection that is corrupt or has no room is no trouble of the server's: another would not serve it either.
        """
        return next((trouble for thread in self._threads if (trouble := thread.trouble())), None) or self._stale()

    def close(self) -> None:
        """Stops following."""
        # Not waited for: half-built lists are of no use.
        self._making.close(join=False)
        for thread in (self._following, self._opening, self._merging):
            thread.close()

    def _stale(self) -> str | None:
        """Which loaded collection is behind the store for too long, as it cannot be read."""
        for folder, failure in list(self._failures.items()):
            behind_s = time.monotonic() - failure.since
            if folder in self._followers and failure.code is ErrorCode.UNAVAILABLE and behind_s > _STALE_S:
                return f"searches have been behind the store for {behind_s:.0f} s: {failure.message}"
        return None

    def _gauges(self) -> Iterator[Gauge]:
        followers, failures = dict(self._followers), dict(self._failures)
        loading = len(set(self._names.values()) - followers.keys() - failures.keys())
        for state, count in (("loaded", len(followers)), ("loading", loading), ("failed", len(failures))):
            yield Gauge(COLLECTIONS, (state,), count)
        yield Gauge(BUDGET, (), self._budget.size)
        yield Gauge(BUDGET_USED, (), self._budget.needed)
        sums: defaultdict[str, Counter[Metric]] = defaultdict(Counter)
        behind: defaultdict[str, int] = defaultdict(int)
        self._metrics.only_collections({follower.snapshot.collection.name for follower in followers.values()})
        for folder, follower in followers.items():
            snapshot = follower.snapshot
            label = self._metrics.collection(snapshot.collection.name)
            documents = snapshot.count()
            sums[label].update(
                {
                    DOCUMENTS: documents,
                    TOKENS: snapshot.tokens(),
                    DEVICE_BYTES: self._budget.taken(folder),
                    DELETED_ROWS: snapshot.rows() - documents,
                }
            )
            with suppress(TokenIndexError):  # as where it was dropped
                behind[label] = max(behind[label], snapshot.collection.latest_version() - snapshot.version)
        for label, amounts in sums.items():
            for metric, amount in amounts.items():
                yield Gauge(metric, (label,), amount)
            yield Gauge(VERSIONS_BEHIND, (label,), behind[label])

    @property
    def _threads(self) -> tuple[Background, ...]:
        return (self._following, self._opening, self._merging, self._making)

    def _want(self, folder: Path) -> None:
        self._wanted.add(folder)
        self._following.wake()

    def _follow(self) -> float:
        """Refreshes what is loaded, schedules the loading of new collections, forgets dropped ones."""
        _stay_on_one_core()
        wanted, self._wanted = self._wanted, set()
        stamp = self._store.stamp()
        if stamp[0] != self._stamp[0] or time.monotonic() >= self._next_pass or wanted - set(self._names.values()):
            self._next_pass = time.monotonic() + _PASS_S
            self._close_removed_files()
            try:
                self._list_names()
            finally:
                # Where the names cannot be read just now, loaded collections are still followed.
                self._refresh_all(self._by_folder())
                self._forget_dropped()
        elif stamp != self._stamp:
            self._refresh_all(self._by_folder())
        elif wanted:
            self._refresh_all({folder: name for folder, name in self._by_folder().items() if folder in wanted})
        self._stamp = stamp
        return _POLL_S

    def _close_removed_files(self) -> None:
        if time.monotonic() >= self._next_closing:
            self._next_closing = time.monotonic() + _RETURN_S
            self._store.close_removed_files()

    def _list_names(self) -> None:
        """Raises StoreUnavailableError, and keeps the names known so far then."""
        names: dict[str, Path] = {}
        for name, folder in self._store.folders().items():
            if folder is not None:
                names[name] = folder
            elif name in self._names:
                # A registry file that cannot be read is no reason to unload its collection.
                names[name] = self._names[name]
        self._names = names

    def _by_folder(self) -> dict[Path, str]:
        return {folder: name for name, folder in self._names.items()}

    def _refresh_all(self, collections: Mapping[Path, str]) -> None:
        """Refreshes those of these that are loaded, and schedules the loading of the others."""
        changed = False
        for folder, name in collections.items():
            if follower := self._followers.get(folder):
                changed |= self._refresh(folder, name, follower)
            elif self._may_try(folder) and folder not in self._to_open:
                self._to_open[folder] = name
                self._opening.wake()
        if changed:
            self._notify()

    def _forget_dropped(self) -> None:
        """Forgets the collections that no name leads to any more."""
        # Copies: another thread opens collections meanwhile.
        known = {*list(self._followers), *list(self._failures), *list(self._to_open)}
        for folder in known - set(self._names.values()):
            for kept in (self._followers, self._failures, self._to_open):
                kept.pop(folder, None)
            self._errors.resolved(folder)
            self._budget.release(folder)

    def _refresh(self, folder: Path, name: str, follower: Follower) -> bool:
        """Whether the collection has another snapshot now, or another reason for not having one."""
        if not self._may_try(folder):
            return False
        before = follower.snapshot
        try:
            follower.refresh()
        except BaseException as error:
            # The snapshot stays where it is, and searches go on.
            return self._failed(folder, name, error)
        self._worked(folder)
        if follower.snapshot is before:
            return False
        self._to_merge.add(folder)
        self._merging.wake()
        return True

    def _open_all(self) -> None:
        _stay_on_one_core()
        while self._to_open and not self._opening.closed:
            folder, name = next(iter(self._to_open.items()))
            self._open({folder: name})
            self._to_open.pop(folder, None)
            self._want(folder)
            self._merging.wake()
            self._notify()
        self._codecs.compile_explanations()

    def _open(self, collections: Mapping[Path, str]) -> None:
        """Loads collections and compiles what they need; then they can be searched."""
        followers: dict[Path, Follower] = {}
        for folder, name in collections.items():
            try:
                followers[folder] = Follower(self._store, name, self._device, budget=self._budget)
            except BaseException as error:
                if self._failed(folder, name, error):
                    self._budget.release(folder)
        self._codecs.compile(follower.snapshot.collection.spec for follower in followers.values())
        for folder, follower in followers.items():
            # Perhaps not that folder: the name may have been dropped and created again since it was resolved.
            self._followers[follower.snapshot.collection.folder] = follower
            self._worked(folder)
            self._to_merge.add(folder)

    def _failed(self, folder: Path, name: str, error: BaseException) -> bool:
        """Remembers it, and when to try again; False where there is nothing left to try."""
        if isinstance(error, CollectionNotFoundError):
            return False  # dropped since it was listed
        if not is_fault(error):
            raise error
        self._metrics.add(LOAD_FAILURES)
        message = f"collection {name!r} could not be followed; next try in {_RETRY_S:g} s"
        self._errors.log(folder, error, message, trace=not isinstance(error, TokenIndexError))
        translated = request_error(error)
        now, before = time.monotonic(), self._failures.get(folder)
        self._failures[folder] = _Failure(
            translated.code, str(translated), before.since if before else now, now + _RETRY_S
        )
        return True

    def _worked(self, folder: Path) -> None:
        if self._failures.pop(folder, None):
            self._errors.resolved(folder)

    def _may_try(self, folder: Path) -> bool:
        failure = self._failures.get(folder)
        return failure is None or time.monotonic() >= failure.retry_at

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _merge_all(self) -> None:
        _stay_on_one_core()
        while self._to_merge and not self._merging.closed:
            folder = self._to_merge.pop()
            follower = self._followers.get(folder)
            try:
                while follower and not self._merging.closed and follower.merge():
                    pass
            except Exception as error:  # searches go on over the segments as they are
                self._merge_errors.log(folder, error, f"segments of {folder} could not be merged")
            else:
                self._merge_errors.resolved(folder)
        if time.monotonic() >= self._next_return:
            self._next_return = time.monotonic() + _RETURN_S
            return_freed()

    def _make_extras(self) -> float:
        _stay_on_one_core()
        for (folder, follower), extra in product(list(self._followers.items()), Extra):
            try:
                if self._followers.get(folder) is follower:  # and not dropped meanwhile
                    follower.make(extra)
            except Exception as error:
                # Its searches do without.
                message = f"{extra.value} of collection {follower.snapshot.collection.name!r} could not be made"
                self._extra_errors.log((folder, extra), error, message, trace=not isinstance(error, TokenIndexError))
            else:
                self._extra_errors.resolved((folder, extra))
        return _EXTRAS_S


def _stay_on_one_core() -> None:
    """For this thread: torch's own threads would spin on cores that searches want (tridex.kernels.cpu)."""
    torch.set_num_threads(1)
