"""A segment in device memory, and what leads from its rows back to their documents in the store."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tridex.index.storage.collection import Collection
from tridex.kernels import Segment, pack_bitmap, unpack_bitmap

from .approximations import ApproximationSlot
from .inverted_lists import ListsSlot
from .search_plans import PlansSlot

_FEW = 100
"""Ids that are looked up one by one, 13 µs each among a million; more of them all at once, in 1.4 ms and more."""

_FRAGMENT_SHIFT = 32
"""Lance's row address: fragment id in the upper 32 bits, position in the fragment below."""


@dataclass(frozen=True)
class IndexedSegment:
    """A segment and its rows' documents. Rows are sorted by id, so the kernels' order of ties is the order of ids.

    Attributes:
        packed: The packed token embeddings on the device, as the kernels take them.
        ids: [documents]; Arrow sorts and filters them without Python's lock, and without an object for each.
        addresses: uint64 [documents]: where each row is in the store.
        live: bool [documents]: what the segment's bitmap says.
        inverted: The segment's inverted lists, once they are made.
        plans: Its captured searches, likewise.
        approximated: Its approximation, likewise.
    """

    packed: Segment
    ids: pa.LargeStringArray
    addresses: NDArray[np.uint64]
    live: NDArray[np.bool_]
    inverted: ListsSlot = field(default_factory=ListsSlot)
    plans: PlansSlot = field(default_factory=PlansSlot)
    approximated: ApproximationSlot = field(default_factory=ApproximationSlot)

    def rows_of(self, ids: pa.LargeStringArray) -> NDArray[np.int64]:
        """The live row that holds each id, [ids]; -1 where none does."""
        low = self._places(ids)
        inside = np.flatnonzero(low < len(self.ids))
        at = low[inside]
        same = np.asarray(pc.equal(self.ids.take(pa.array(at)), ids.take(pa.array(inside)))) & self.live[at]
        rows = np.full(len(ids), -1)
        rows[inside[same]] = at[same]
        return rows

    def _places(self, ids: pa.LargeStringArray) -> NDArray[np.int64]:
        """How many rows have a lower id than each, by binary search."""
        if len(ids) <= _FEW:
            rows = range(len(self.ids))
            return np.array([bisect_left(rows, key, key=lambda i: self.ids[i].as_py()) for key in ids.to_pylist()], int)
        low, high = np.zeros(len(ids), np.int64), np.full(len(ids), len(self.ids))
        while (searched := low < high).any():
            middle = np.where(searched, (low + high) // 2, 0)
            before = np.asarray(pc.less(self.ids.take(pa.array(middle)), ids))
            low = np.where(searched & before, middle + 1, low)
            high = np.where(searched & ~before, middle, high)
        return low

    def without(self, ids: pa.LargeStringArray) -> IndexedSegment:
        """The same rows, of which those with one of these ids are deleted."""
        rows = self.rows_of(ids)
        if not (rows >= 0).any():
            return self
        live = self.live.copy()
        live[rows[rows >= 0]] = False
        return self.with_live(live)

    def with_live(self, live: NDArray[np.bool_]) -> IndexedSegment:
        """The same rows with another set of live ones."""
        return replace(self, packed=self.packed.with_live(pack_bitmap(live)), live=live)

    def live_on_device(self) -> torch.Tensor:
        """`live` on the segment's device, bool [documents]: by the bitmap that is there, so that nothing is copied."""
        if self.packed.device.type == "cpu":
            return torch.from_numpy(self.live)
        return unpack_bitmap(self.packed.live, len(self.live))

    def live_after(self, collection: Collection, fragments: set[int]) -> NDArray[np.bool_]:
        """Which rows live on, [documents], now that the deletes of `fragments` have changed."""
        return self.live & (~self.lies_in(fragments) | np.isin(self.addresses, _live_addresses(collection, fragments)))

    def fragments(self) -> set[int]:
        """The fragments that its rows lie in."""
        return set(np.unique(self.addresses >> np.uint64(_FRAGMENT_SHIFT)).tolist())

    def relocated(self, fragments: set[int], ids: pa.LargeStringArray, addresses: NDArray[np.uint64]) -> IndexedSegment:
        """The same documents, of which those in `fragments` were moved within the store.

        Args:
            fragments: The fragments that are gone.
            ids: Rows of the fragments that replaced them.
            addresses: uint64 [ids]: where those rows are.

        Raises:
            ValueError: A live row is not among them.
        """
        rows = np.flatnonzero(self.live & self.lies_in(fragments))
        places = pc.index_in(self.ids.take(pa.array(rows)), ids)
        if places.null_count:
            raise ValueError(f"{places.null_count} rows of {len(rows)} are not where their fragments went")
        moved = self.addresses.copy()
        moved[rows] = addresses[np.asarray(places)]
        return replace(self, addresses=moved)

    def lies_in(self, fragments: set[int]) -> NDArray[np.bool_]:
        """bool [documents]: whether a row is one of these fragments'."""
        return np.isin(self.addresses >> np.uint64(_FRAGMENT_SHIFT), np.fromiter(fragments, np.uint64))


def narrow(segments: Sequence[IndexedSegment], collection: Collection, condition: str) -> list[IndexedSegment]:
    """The segments that hold a live document for which this SQL holds, with those documents alone live.

    Rows are matched through a table with a place for each row of the store, not by looking each address up.
    """
    fragments = collection.dataset.get_fragments()
    rows = np.array([fragment.physical_rows for fragment in fragments], np.int64)
    starts = np.zeros(max((fragment.fragment_id for fragment in fragments), default=0) + 1, np.int64)
    starts[[fragment.fragment_id for fragment in fragments]] = np.cumsum(rows) - rows

    def place(addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        fragment, row = addresses >> np.uint64(_FRAGMENT_SHIFT), addresses & np.uint64(2**_FRAGMENT_SHIFT - 1)
        return starts[fragment.astype(np.int64)] + row.astype(np.int64)

    matches = np.zeros(int(rows.sum()), np.bool_)
    matches[place(collection.matching_addresses(condition))] = True
    narrowed = []
    for segment in segments:
        live = segment.live.copy()
        live[live] = matches[place(segment.addresses[live])]
        if live.any():
            narrowed.append(segment.with_live(live))
    return narrowed


def _live_addresses(collection: Collection, fragments: set[int]) -> NDArray[np.uint64]:
    existing = collection.fragments(fragments)
    if not existing:
        return np.empty(0, np.uint64)
    rows = collection.dataset.scanner(columns=[], fragments=existing, with_row_address=True).to_table()
    return np.asarray(rows["_rowaddr"], np.uint64)
