"""Keeps the snapshot of a collection up with the store.

Two threads may share the work: one refreshes, which is quick, another merges, which may take seconds. Searches wait for
neither.
"""

from __future__ import annotations

import logging
import threading
import time

import torch

from tridex.index.errors import MemoryBudgetError
from tridex.index.storage.file_errors import storage_errors
from tridex.index.storage.root import Store
from tridex.kernels import approximate, approximation_bytes

from .approximations import is_worth_approximating
from .budget import Extra, MemoryBudget
from .catch_up import first_snapshot, later_snapshots
from .inverted_lists import lists_bytes, make_lists
from .merging import merge_segments, next_merge
from .segment_loader import SegmentLoader
from .snapshot import Snapshot

_log = logging.getLogger(__name__)

_RETRY_S = 60.0
"""How long a segment does without any of its extras before there may be room for them."""

_SEGMENT_BYTES = 2**30
"""Codes of the largest segment: what a merge needs beside the segments that exist."""


class Follower:
    """Keeps a snapshot of the newest version of a collection. Thread-safe; readers take `snapshot` without a lock.

    It stays with the collection that `name` led to when it was made, wherever the name leads later.

    Args:
        store: Where the collection is.
        name: The collection's, or an alias.
        device: Where the snapshot's segments are.
        segment_bytes: Codes of the largest segment; less where `budget` says so.
        budget: Where memory is reserved before anything is loaded; None for no limit.

    Attributes:
        snapshot: Of the version that was last read.

    Raises:
        MemoryBudgetError: The budget has no room. From `refresh` too, which keeps the snapshot then.
        CollectionNotFoundError: There is no such collection.
        CorruptCollectionError: Its files cannot be read.
        StoreUnavailableError: They could not be read just now.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        device: torch.device,
        segment_bytes: int = _SEGMENT_BYTES,
        budget: MemoryBudget | None = None,
    ) -> None:
        self._changing = threading.Lock()
        self._merging = threading.Lock()
        self._budget = budget
        self._drops = self._plan_drops = self._approximation_drops = 0
        """How often the inverted lists, the search plans and the approximations had to go."""
        collection = store.open(name)
        self._loader = SegmentLoader(collection, device, segment_bytes, budget)
        with storage_errors(name, collection.folder):
            self.snapshot = first_snapshot(collection, self._loader)

    def refresh(self) -> Snapshot:
        """Moves the snapshot to the store's newest version; where it is at that already, only asks for its number."""
        with self._changing:
            if self.snapshot.collection.latest_version() != self.snapshot.version:
                newest = self.snapshot.collection.latest()
                with storage_errors(newest.name, newest.folder):
                    for snapshot in later_snapshots(self.snapshot, newest, self._loader):
                        self.snapshot = snapshot
            return self.snapshot

    def merge(self) -> bool:
        """Merges some small segments, or packs one with many deleted rows again.

        Returns:
            Whether there was something to do, so whether to call it again.
        """
        with self._merging:
            seen = self.snapshot
            run = next_merge(seen.segments, self._loader.max_tokens)
            if run is None:
                return False
            merged = merge_segments(seen.segments[run], seen.collection.spec)
            with self._changing:
                now = self.snapshot
                pairs = zip(seen.segments[run], now.segments[run], strict=True)
                if any(before.addresses is not after.addresses for before, after in pairs):
                    return True  # The store was compacted meanwhile; the next call merges again.
                if merged and now.version != seen.version:
                    merged = merged.with_live(merged.live_after(now.collection, merged.fragments()))
                    if now.duplicates:
                        for newer in now.segments[run.stop :]:
                            merged = merged.without(newer.ids)
                middle = (merged,) if merged else ()
                segments = (*now.segments[: run.start], *middle, *now.segments[run.stop :])
                self.snapshot = Snapshot(now.collection, segments, duplicates=now.duplicates)
            return True

    def make_lists(self) -> None:
        """Makes the inverted lists that searches have wanted and miss: some seconds for a million tokens.

        Not for the thread that refreshes: nothing waits for them, and a segment without them is searched exactly.

        Raises:
            MemoryBudgetError: There is no room for them. They are tried again a minute later.
        """
        segments = self.snapshot.segments
        for segment in segments:
            slot = segment.inverted
            if slot.wanted and slot.lists is None and segment.packed.tokens and slot.retry_at <= time.monotonic():
                drops = self._drops
                if self._budget is not None:
                    listed = [other for other in segments if other.inverted.lists or other is segment]
                    need = sum(lists_bytes(other.packed) for other in listed)
                    slot.retry_at = time.monotonic() + _RETRY_S
                    self._budget.reserve_extra(self.snapshot.collection, Extra.INVERTED_LISTS, need, self._drop_lists)
                slot.lists = make_lists(segment.packed)
                if self._drops != drops:
                    slot.lists = None

    def _drop_lists(self) -> None:
        """Called by any thread, while lists may be being made."""
        self._drops += 1
        for segment in self.snapshot.segments:
            segment.inverted.lists = None

    def make_plans(self) -> None:
        """Captures the searches that have come often enough, milliseconds each; only a GPU has any.

        For one thread at a time, and not for the one that refreshes: nothing waits for it.

        Raises:
            MemoryBudgetError: There is no room for them. They are tried again a minute later.
            RuntimeError: The device has failed.
        """
        segments = self.snapshot.segments
        for segment in segments:
            slot = segment.plans
            if slot.wanted() and slot.retry_at <= time.monotonic():
                slot.retry_at = time.monotonic() + _RETRY_S
                drops = self._plan_drops
                if self._budget is not None:
                    need = sum(other.plans.needed_bytes(other.packed) for other in segments)
                    self._budget.reserve_extra(self.snapshot.collection, Extra.SEARCH_PLANS, need, self._drop_plans)
                slot.make(segment.packed)
                if self._plan_drops != drops:
                    slot.drop()
                elif not slot.wanted():
                    slot.retry_at = 0.0

    def _drop_plans(self) -> None:
        """Called by any thread, while plans may be being made."""
        self._plan_drops += 1
        for segment in self.snapshot.segments:
            segment.plans.drop()

    def make_approximations(self) -> None:
        """Makes one of the approximations that searches on this device gain by and miss: some seconds for a million
        tokens. One, as what searches have asked for comes first.

        Not for the thread that refreshes, as `make_lists`. Where there is no room, they are tried again a minute later:
        nobody has asked for them, so that is no error.
        """
        segments = [segment for segment in self.snapshot.segments if is_worth_approximating(segment.packed)]
        for segment in segments:
            slot = segment.approximated
            if slot.approximation is None and slot.retry_at <= time.monotonic():
                drops = self._approximation_drops
                if self._budget is not None:
                    made = [other for other in segments if other.approximated.approximation or other is segment]
                    need = sum(approximation_bytes(other.packed) for other in made)
                    slot.retry_at = time.monotonic() + _RETRY_S
                    try:
                        self._budget.reserve_extra(
                            self.snapshot.collection, Extra.APPROXIMATIONS, need, self._drop_approximations
                        )
                    except MemoryBudgetError as error:
                        _log.info("%s", error)
                        return
                slot.approximation = approximate(segment.packed)
                if self._approximation_drops != drops:
                    slot.approximation = None
                return

    def _drop_approximations(self) -> None:
        """Called by any thread, while approximations may be being made."""
        self._approximation_drops += 1
        for segment in self.snapshot.segments:
            segment.approximated.approximation = None
