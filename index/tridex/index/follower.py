"""How a view follows the store: new rows become segments, deletes clear bits, small segments are merged.

Two threads may share the work: one refreshes, which is quick, another merges, which may take seconds. Searches wait for
neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import lance
import torch

from .candidates import lists_bytes, make_lists
from .collection import Collection, Size
from .errors import MemoryBudgetError
from .memory import MAX_DEAD_SHARE, MemoryBudget, needed_bytes
from .segments import IndexedSegment, live_ids, load_segments, merge_segments
from .storage import storage_errors
from .store import Store
from .view import View

_MERGE_RATIO = 8
"""A segment that is not this many times larger than the next newer one is merged with it: the number of segments stays
logarithmic in the number of upserts, and every row is copied a logarithmic number of times. At a ratio of 2, maxsim
took 18 ms for a lone query just after 3,411 documents came 64 at a time, and 14 to 15 ms in other runs on one segment
(two CPU cores; not side by side, and 8 itself was not measured)."""

_RETRY_LISTS_S = 60.0
"""How long a segment is searched exactly before there may be room for its inverted lists."""

_SEGMENT_BYTES = 2**30
"""Codes of the largest segment: what a merge needs beside the segments that are there."""


class Follower:
    """Keeps a view of the newest version of a collection. Thread-safe; readers take `view` without a lock.

    It stays with the collection that `name` led to when it was made, wherever the name leads later.
    What it takes is reserved in `budget` first; it raises MemoryBudgetError where that has no room, and keeps the view.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        device: torch.device,
        segment_bytes: int = _SEGMENT_BYTES,
        budget: MemoryBudget | None = None,
    ) -> None:
        self._device = device
        self._changing = threading.Lock()
        self._merging = threading.Lock()
        collection = store.open(name)
        spec = collection.spec
        if budget is not None:
            segment_bytes = min(segment_bytes, budget.segment_bytes)
        self._max_tokens = max(segment_bytes // spec.codec.bytes_per_token(spec.dim), 1)
        fragments = collection.dataset.get_fragments()
        self._budget = budget
        self._size = Size()
        self._drops = 0
        """How often the lists had to go."""
        with storage_errors(name, collection.folder):
            self._reserve(collection, fragments)
            self._codebook = None if collection.codebook is None else collection.codebook.to(device)
            segments = load_segments(collection, fragments, device, self._max_tokens, self._codebook)
            self.view = View(collection, tuple(segments))

    def refresh(self) -> View:
        """Moves the view to the store's newest version; asks the store only, where it is there already."""
        with self._changing:
            if self.view.collection.latest_version() != self.view.version:
                newest = self.view.collection.latest()
                # Where the history is cleaned up, what moved is read again.
                with suppress(OSError, ValueError):
                    self._keep_what_moved(newest)
                with storage_errors(newest.name, newest.folder):
                    self.view = self._follow(newest)
            return self.view

    def merge(self) -> bool:
        """Merges some small segments, or packs one with many dead rows again; False where there was nothing to do."""
        with self._merging:
            seen = self.view
            run = _next_merge(seen.segments, self._max_tokens)
            if run is None:
                return False
            parts = seen.segments[run]
            merged = merge_segments(parts, seen.collection.spec)
            with self._changing:
                now = self.view
                there = now.segments[run]
                if any(part.addresses is not same.addresses for part, same in zip(parts, there, strict=True)):
                    return True  # The store was compacted meanwhile; the next call merges again.
                if merged and now.version != seen.version:
                    merged = merged.with_live(merged.live_after(now.collection, merged.fragments()))
                middle = (merged,) if merged else ()
                self.view = View(now.collection, (*now.segments[: run.start], *middle, *now.segments[run.stop :]))
            return True

    def make_lists(self) -> None:
        """Makes the inverted lists that searches have wanted and miss: some seconds for a million tokens.

        Not for the thread that refreshes: nothing waits for them, and a segment without them is searched exactly.
        Raises MemoryBudgetError where there is no room for them, and tries these again a minute later.
        """
        segments = self.view.segments
        for part in segments:
            slot = part.inverted
            if slot.wanted and slot.lists is None and part.segment.tokens and slot.retry_at <= time.monotonic():
                drops = self._drops
                if self._budget is not None:
                    there = [other for other in segments if other.inverted.lists or other is part]
                    need = sum(lists_bytes(other.segment) for other in there)
                    slot.retry_at = time.monotonic() + _RETRY_LISTS_S
                    self._budget.reserve_lists(self.view.collection, need, self._drop_lists)
                slot.lists = make_lists(part.segment)
                if self._drops != drops:
                    slot.lists = None

    def _drop_lists(self) -> None:
        """Called by any thread, while lists may be being made."""
        self._drops += 1
        for part in self.view.segments:
            part.inverted.lists = None

    def _keep_what_moved(self, newest: Collection) -> None:
        """Follows the store's compactions, one by one: the rows stay in memory and are found elsewhere in the store.

        Raises OSError or ValueError where a version in between is gone.
        """
        if not _deletions(self.view.collection).keys() - _deletions(newest).keys():
            return
        for version in newest.compactions_since(self.view.version):
            self.view = self._follow(newest.at(version - 1))
            compacted = newest.at(version)
            before, after = _deletions(self.view.collection).keys(), _deletions(compacted).keys()
            ids, addresses = live_ids(compacted, compacted.fragments(after - before))
            gone = before - after
            self.view = View(compacted, tuple(part.relocated(gone, ids, addresses) for part in self.view.segments))

    def _reserve(self, collection: Collection, new: Sequence[lance.LanceFragment]) -> None:
        """Raises MemoryBudgetError where the device has no room for these rows more."""
        if self._budget is None:
            return
        size = self._size + collection.size(new)
        try:
            self._budget.reserve(collection, needed_bytes(collection.spec, size, collection.codebook))
        except MemoryBudgetError:
            # Rows that these replace, or that were deleted, are counted still.
            size = collection.size()
            self._budget.reserve(collection, needed_bytes(collection.spec, size, collection.codebook))
        self._size = size

    def _follow(self, collection: Collection) -> View:
        """The view of `collection`, made from the one there is."""
        before, after = _deletions(self.view.collection), _deletions(collection)
        changed = {key for key, count in before.items() if after.get(key) != count}
        segments = list(self.view.segments)
        if changed:
            segments = [part.with_live(part.live_after(collection, changed)) for part in segments]
        if new := collection.fragments(after.keys() - before.keys()):
            self._reserve(collection, new)
            segments += load_segments(collection, new, self._device, self._max_tokens, self._codebook)
        return View(collection, tuple(segments))


def _deletions(collection: Collection) -> dict[int, int]:
    """Deleted rows of each fragment."""
    return {fragment.fragment_id: fragment.num_deletions for fragment in collection.dataset.get_fragments()}


def _next_merge(segments: tuple[IndexedSegment, ...], max_tokens: int) -> slice | None:
    """The neighbours to merge next, or the one to pack again."""
    for i, part in enumerate(segments):
        if 1 - part.live.mean() > MAX_DEAD_SHARE:
            return slice(i, i + 1)
    first, documents, tokens = len(segments), 0, 0
    for part in reversed(segments):
        tokens += part.segment.tokens
        if documents and (len(part.ids) >= _MERGE_RATIO * documents or tokens > max_tokens):
            break
        documents += len(part.ids)
        first -= 1
    return slice(first, len(segments)) if len(segments) - first > 1 else None
