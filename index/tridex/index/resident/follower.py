"""Keeps the snapshot of a collection up with the store.

Two threads may share the work: one refreshes, which is quick, another merges, which may take seconds. Searches wait for
neither.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from functools import partial

import torch

from tridex.index.errors import MemoryBudgetError
from tridex.index.storage.file_errors import storage_errors
from tridex.index.storage.root import Store

from .budget import Extra, MemoryBudget
from .catch_up import first_snapshot, later_snapshots
from .extras import SLOTS
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
        self._drops: Counter[Extra] = Counter()
        """How often the extras of a kind had to go."""
        collection = store.open(name)
        self._loader = SegmentLoader(collection, device, segment_bytes, budget)
        with storage_errors(name, collection.folder):
            self.snapshot = first_snapshot(collection, self._loader)

    def refresh(self) -> Snapshot:
        """Moves the snapshot to the store's newest version; where it is at that already, only asks for its number.

        Either way the snapshot keeps no removed files open once `Store.close_removed_files` was called.
        """
        with self._changing:
            if self.snapshot.collection.latest_version() != self.snapshot.version:
                newest = self.snapshot.collection.latest()
                with storage_errors(newest.name, newest.folder):
                    for snapshot in later_snapshots(self.snapshot, newest, self._loader):
                        self.snapshot = snapshot
            else:
                self.snapshot.collection.renew()
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

    def make(self, extra: Extra) -> None:
        """Makes the extras of a kind that searches want and miss: lists and approximations in seconds for a million
        tokens, plans in milliseconds. One approximation at a time: nobody has asked for it, and others may wait.

        For one thread at a time, and not for the one that refreshes: nothing waits for them, and searches do without.

        Raises:
            MemoryBudgetError: There is no room for what was asked for. It is tried again a minute later.
            RuntimeError: The device has failed.
        """
        seen = self.snapshot
        slots = [(SLOTS[extra](segment), segment.packed) for segment in seen.segments]
        for slot, packed in slots:
            if not slot.is_wanted(packed) or slot.retry_at > time.monotonic():
                continue
            slot.retry_at = time.monotonic() + _RETRY_S
            drops = self._drops[extra]
            if self._budget is not None:
                need = sum(other.needed_bytes(of) for other, of in slots if other is slot or other.has_any)
                try:
                    self._budget.reserve_extra(seen.collection, extra, need, partial(self._drop, extra))
                except MemoryBudgetError as error:
                    if extra is not Extra.APPROXIMATIONS:
                        raise
                    _log.info("%s", error)
                    return
            slot.make(packed)
            if self._drops[extra] != drops:
                slot.drop()
            elif not slot.is_wanted(packed):
                slot.retry_at = 0.0
            if extra is Extra.APPROXIMATIONS:
                return

    def _drop(self, extra: Extra) -> None:
        """Called by any thread, while extras may be being made."""
        self._drops[extra] += 1
        for segment in self.snapshot.segments:
            slot = SLOTS[extra](segment)
            slot.drop()
            slot.retry_at = time.monotonic() + _RETRY_S
