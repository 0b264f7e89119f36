"""How a snapshot follows the store: new rows become segments, deletes clear bits, small segments are merged.

Two threads may share the work: one refreshes, which is quick, another merges, which may take seconds. Searches wait for
neither.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import lance
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tridex.index.errors import MemoryBudgetError
from tridex.index.storage.collection import Collection, Size
from tridex.index.storage.duplicate_ids import is_newest
from tridex.index.storage.file_errors import forget_cached, is_fault, storage_errors
from tridex.index.storage.store import Store

from .budget import MAX_DELETED_SHARE, MemoryBudget, needed_bytes
from .indexed_segment import IndexedSegment, load_segments, merge_segments, read_codes, same_codes
from .inverted_lists import lists_bytes, make_lists
from .snapshot import Snapshot

_MERGE_RATIO = 8
"""A segment that is not this many times larger than the next newer one is merged with it: the number of segments stays
logarithmic in the number of upserts, and every row is copied a logarithmic number of times. At a ratio of 2, maxsim
took 18 ms for a lone query just after 3,411 documents came 64 at a time, and 14 to 15 ms in other runs on one segment
(two CPU cores; not side by side, and 8 itself was not measured)."""

_RETRY_LISTS_S = 60.0
"""How long a segment is searched exactly before there may be room for its inverted lists."""

_SEGMENT_BYTES = 2**30
"""Codes of the largest segment: what a merge needs beside the segments that are there."""

_log = logging.getLogger(__name__)


class Follower:
    """Keeps a snapshot of the newest version of a collection. Thread-safe; readers take `snapshot` without a lock.

    It stays with the collection that `name` led to when it was made, wherever the name leads later.
    What it takes is reserved in `budget` first; it raises MemoryBudgetError where that has no room, and keeps the
    snapshot.
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
            self.snapshot = _snapshot(collection, segments)

    def refresh(self) -> Snapshot:
        """Moves the snapshot to the store's newest version; asks the store only, where it is there already."""
        with self._changing:
            if self.snapshot.collection.latest_version() != self.snapshot.version:
                newest = self.snapshot.collection.latest()
                with storage_errors(newest.name, newest.folder):
                    self.snapshot = self._caught_up(newest)
            return self.snapshot

    def merge(self) -> bool:
        """Merges some small segments, or packs one with many dead rows again; False where there was nothing to do."""
        with self._merging:
            seen = self.snapshot
            run = _next_merge(seen.segments, self._max_tokens)
            if run is None:
                return False
            parts = seen.segments[run]
            merged = merge_segments(parts, seen.collection.spec)
            with self._changing:
                now = self.snapshot
                there = now.segments[run]
                if any(part.addresses is not same.addresses for part, same in zip(parts, there, strict=True)):
                    return True  # The store was compacted meanwhile; the next call merges again.
                if merged and now.version != seen.version:
                    merged = merged.with_live(merged.live_after(now.collection, merged.fragments()))
                    if now.doubles:
                        for newer in now.segments[run.stop :]:
                            merged = merged.without(newer.ids)
                middle = (merged,) if merged else ()
                segments = (*now.segments[: run.start], *middle, *now.segments[run.stop :])
                self.snapshot = Snapshot(now.collection, segments, doubles=now.doubles)
            return True

    def make_lists(self) -> None:
        """Makes the inverted lists that searches have wanted and miss: some seconds for a million tokens.

        Not for the thread that refreshes: nothing waits for them, and a segment without them is searched exactly.
        Raises MemoryBudgetError where there is no room for them, and tries these again a minute later.
        """
        segments = self.snapshot.segments
        for part in segments:
            slot = part.inverted
            if slot.wanted and slot.lists is None and part.segment.tokens and slot.retry_at <= time.monotonic():
                drops = self._drops
                if self._budget is not None:
                    there = [other for other in segments if other.inverted.lists or other is part]
                    need = sum(lists_bytes(other.segment) for other in there)
                    slot.retry_at = time.monotonic() + _RETRY_LISTS_S
                    self._budget.reserve_lists(self.snapshot.collection, need, self._drop_lists)
                slot.lists = make_lists(part.segment)
                if self._drops != drops:
                    slot.lists = None

    def _drop_lists(self) -> None:
        """Called by any thread, while lists may be being made."""
        self._drops += 1
        for part in self.snapshot.segments:
            part.inverted.lists = None

    def _caught_up(self, newest: Collection) -> Snapshot:
        """The snapshot of `newest`, by as little loading as what is known of the store allows."""
        if newest.version < self.snapshot.version:
            # A backup took the files' place, so nothing of what is there is what its number says.
            forget_cached()
            newest = newest.latest()
            before = set(_deletions(self.snapshot.collection))
            return self._compare(newest, before, newest.dataset.get_fragments())
        if self._keep_what_moved(newest):
            return self._follow(newest)
        before, after = set(_deletions(self.snapshot.collection)), set(_deletions(newest))
        return self._compare(newest, before - after, newest.fragments(after - before))

    def _keep_what_moved(self, newest: Collection) -> bool:
        """Follows the store's compactions, one by one: the rows stay in memory and are found elsewhere in the store.

        False where the history does not say where they are: one of its versions is cleaned up, or cannot be read, or
        an id is there twice.
        """
        if not _deletions(self.snapshot.collection).keys() - _deletions(newest).keys():
            return True
        try:
            for version in newest.compactions_since(self.snapshot.version):
                self.snapshot = self._follow(newest.at(version - 1))
                if self.snapshot.doubles:
                    return False
                compacted = newest.at(version)
                before, after = _deletions(self.snapshot.collection).keys(), _deletions(compacted).keys()
                ids, addresses = compacted.rows(compacted.fragments(after - before))
                gone = before - after
                self.snapshot = Snapshot(
                    compacted, tuple(part.relocated(gone, ids, addresses) for part in self.snapshot.segments)
                )
        except MemoryBudgetError:
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            _log.info("collection %r: its history cannot be read, so rows are compared (%s)", newest.name, error)
            return False
        return True

    def _compare(self, newest: Collection, gone: set[int], new: Sequence[lance.LanceFragment]) -> Snapshot:
        """The snapshot of `newest`, where nothing says what became of the rows of files that are gone.

        They are looked for in the files that are new, by id and codes, so that only what changed is loaded.
        """
        before, after = _deletions(self.snapshot.collection), _deletions(newest)
        changed = {key for key in before.keys() - gone if before[key] != after.get(key)}
        parts = [part.with_live(part.live_after(newest, changed)) for part in self.snapshot.segments]
        moved = [part.addresses.copy() for part in parts]
        alive = [part.live & ~part.lies_in(gone) for part in parts]
        ids, addresses = newest.rows(new)
        unseen = is_newest(ids, addresses)
        end = 0
        for batch in read_codes(newest, new):
            first, end = end, end + len(batch)
            for part, place, live in zip(parts, moved, alive, strict=True):
                rows = part.rows_of(ids[first:end])
                there = np.flatnonzero((rows >= 0) & unseen[first:end])
                there = there[~live[rows[there]]]
                there = there[same_codes(part, rows[there], batch["codes"].take(pa.array(there)), newest.spec)]
                place[rows[there]] = addresses[first:end][there]
                live[rows[there]] = True
                unseen[first + there] = False
        self._reserve(newest)
        found = [
            replace(part, addresses=place).with_live(live)
            for part, place, live in zip(parts, moved, alive, strict=True)
        ]
        return self._joined(newest, found, new, addresses[unseen])

    def _reserve(self, collection: Collection, new: Sequence[lance.LanceFragment] | None = None) -> None:
        """Raises MemoryBudgetError where the device has no room for these files' rows more, or for the collection."""
        if self._budget is None:
            return
        size = collection.size() if new is None else self._size + collection.size(new)
        try:
            self._budget.reserve(collection, needed_bytes(collection.spec, size, collection.codebook))
        except MemoryBudgetError:
            if new is None:
                raise
            # Rows that these replace, or that were deleted, are counted still.
            size = collection.size()
            self._budget.reserve(collection, needed_bytes(collection.spec, size, collection.codebook))
        self._size = size

    def _follow(self, collection: Collection) -> Snapshot:
        """The snapshot of `collection`, made from the one there is."""
        before, after = _deletions(self.snapshot.collection), _deletions(collection)
        changed = {key for key, count in before.items() if after.get(key) != count}
        segments = list(self.snapshot.segments)
        if changed:
            segments = [part.with_live(part.live_after(collection, changed)) for part in segments]
        new = collection.fragments(after.keys() - before.keys())
        if new:
            self._reserve(collection, new)
        return self._joined(collection, segments, new)

    def _joined(
        self,
        collection: Collection,
        segments: list[IndexedSegment],
        new: Sequence[lance.LanceFragment],
        only: NDArray[np.uint64] | None = None,
    ) -> Snapshot:
        """These segments and the rows of new files, all or some. A new row is the newest of its id."""
        loaded = (
            load_segments(collection, new, self._device, self._max_tokens, self._codebook, only)
            if new and (only is None or len(only))
            else []
        )
        for more in loaded:
            segments = [part.without(more.ids) for part in segments]
        return _snapshot(collection, [*segments, *loaded])


def _snapshot(collection: Collection, segments: Sequence[IndexedSegment]) -> Snapshot:
    shown = sum(int(part.live.sum()) for part in segments)
    return Snapshot(collection, tuple(segments), doubles=max(collection.count() - shown, 0))


def _deletions(collection: Collection) -> dict[int, int]:
    """Deleted rows of each fragment."""
    return {fragment.fragment_id: fragment.num_deletions for fragment in collection.dataset.get_fragments()}


def _next_merge(segments: tuple[IndexedSegment, ...], max_tokens: int) -> slice | None:
    """The neighbours to merge next, or the one to pack again."""
    for i, part in enumerate(segments):
        if 1 - part.live.mean() > MAX_DELETED_SHARE:
            return slice(i, i + 1)
    first, documents, tokens = len(segments), 0, 0
    for part in reversed(segments):
        tokens += part.segment.tokens
        if documents and (len(part.ids) >= _MERGE_RATIO * documents or tokens > max_tokens):
            break
        documents += len(part.ids)
        first -= 1
    return slice(first, len(segments)) if len(segments) - first > 1 else None
