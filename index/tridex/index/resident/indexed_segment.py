"""Packs rows of the store into segments in device memory, and keeps what leads from a row back to its document."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tridex.index.storage.collection import Collection, large_ids
from tridex.index.storage.duplicate_ids import is_newest
from tridex.index.storage.spec import CollectionSpec
from tridex.kernels import Codebook, Columns, Segment, pack_bitmap

from .inverted_lists import ListsSlot

_ROWS_PER_COPY = 1024
"""Documents whose codes are read or moved at a time. A merge runs beside searches, which wait for Python's lock no
longer than one such step holds it."""

_READ_AHEAD_BYTES = 128 * 2**20
"""What Lance holds of codes that are not packed yet; it takes 2 GiB by itself."""

_FEW = 100
"""Ids that are looked up one by one, 13 µs each among a million; more of them all at once, in 1.4 ms and more."""

_FRAGMENT_SHIFT = 32
"""Lance's row address: fragment id in the upper 32 bits, position in the fragment below."""


@dataclass(frozen=True)
class IndexedSegment:
    """A segment and its rows' documents. Rows are sorted by id, so the kernels' order of ties is the order of ids."""

    segment: Segment
    ids: pa.LargeStringArray
    """[documents]; Arrow sorts and filters them without Python's lock, and without an object for each."""
    addresses: NDArray[np.uint64]
    """[documents], where each row lies in the store."""
    live: NDArray[np.bool_]
    """[documents], what the segment's bitmap says."""
    inverted: ListsSlot = field(default_factory=ListsSlot)

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
        """The same rows, of which those with one of these ids are dead."""
        rows = self.rows_of(ids)
        if not (rows >= 0).any():
            return self
        live = self.live.copy()
        live[rows[rows >= 0]] = False
        return self.with_live(live)

    def with_live(self, live: NDArray[np.bool_]) -> IndexedSegment:
        """The same rows with other ones alive."""
        return replace(self, segment=self.segment.with_live(pack_bitmap(live)), live=live)

    def live_after(self, collection: Collection, fragments: set[int]) -> NDArray[np.bool_]:
        """Which rows live on, [documents], now that the deletes of `fragments` have changed."""
        return self.live & (~self.lies_in(fragments) | np.isin(self.addresses, _live_addresses(collection, fragments)))

    def fragments(self) -> set[int]:
        """The fragments that its rows lie in."""
        return set(np.unique(self.addresses >> np.uint64(_FRAGMENT_SHIFT)).tolist())

    def relocated(self, fragments: set[int], ids: pa.LargeStringArray, addresses: NDArray[np.uint64]) -> IndexedSegment:
        """The same documents, of which those of `fragments` lie elsewhere now: where, `addresses` say for `ids`.

        Raises ValueError where a live row is not among them.
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


def narrow(parts: Sequence[IndexedSegment], collection: Collection, condition: str) -> list[IndexedSegment]:
    """The segments that hold a live document for which this SQL holds, with those documents alone alive.

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
    for part in parts:
        live = part.live.copy()
        live[live] = matches[place(part.addresses[live])]
        if live.any():
            narrowed.append(part.with_live(live))
    return narrowed


def _live_addresses(collection: Collection, fragments: set[int]) -> NDArray[np.uint64]:
    there = [f for f in collection.dataset.get_fragments() if f.fragment_id in fragments]
    if not there:
        return np.empty(0, np.uint64)
    rows = collection.dataset.scanner(columns=[], fragments=there, with_row_address=True).to_table()
    return np.asarray(rows["_rowaddr"], np.uint64)


def load_segments(
    collection: Collection,
    fragments: Sequence[lance.LanceFragment],
    device: torch.device,
    max_tokens: int,
    codebook: Codebook | None,
    only: NDArray[np.uint64] | None = None,
) -> list[IndexedSegment]:
    """Reads fragments of the store, or the rows at these addresses of them alone, into segments on `device` of at most
    `max_tokens` and a document each. Where an id comes twice, the newest row is read.

    `codebook` is the collection's, on that device: all of its segments share one.

    Two passes: ids and lengths say where each document goes, then its codes go straight there, so the host holds one
    batch of codes at a time beside the packed result.
    """
    dataset, spec = collection.dataset, collection.spec
    heads = dataset.scanner(columns=["id", "tokens"], fragments=fragments, with_row_address=True).to_table()
    ids = large_ids(heads)
    addresses = np.asarray(heads["_rowaddr"], np.uint64)
    kept = is_newest(ids, addresses)
    if only is not None:
        kept &= np.isin(addresses, only)
    ids, addresses = ids.filter(pa.array(kept)), addresses[kept]
    tokens = np.asarray(heads["tokens"], np.int64)[kept]
    slices = _slices(tokens, max_tokens)
    packings = [
        _Packing(spec, ids[rows.start : rows.stop], addresses[rows], tokens[rows], device, codebook) for rows in slices
    ]
    first = seen = 0
    for batch in read_codes(collection, fragments):
        here = kept[seen : seen + len(batch)]
        seen += len(batch)
        codes = batch["codes"] if here.all() else batch["codes"].filter(pa.array(here))
        end = first + len(codes)
        for rows, packing in zip(slices, packings, strict=True):
            begin, stop = max(first, rows.start), min(end, rows.stop)
            if begin < stop:
                planes = _planes(spec, codes.slice(begin - first, stop - begin), device)
                packing.put(slice(begin - rows.start, stop - rows.start), planes)
        first = end
    return [packing.done() for packing in packings]


def read_codes(collection: Collection, fragments: Sequence[lance.LanceFragment]) -> Iterator[pa.RecordBatch]:
    """The codes of these fragments' live rows, some rows at a time, in the store's order."""
    scanner = collection.dataset.scanner(
        columns=["codes"],
        fragments=fragments,
        batch_size=_ROWS_PER_COPY,
        io_buffer_size=_READ_AHEAD_BYTES,
        scan_in_order=True,
    )
    yield from scanner.to_batches()


def same_codes(
    part: IndexedSegment, rows: NDArray[np.int64], codes: pa.LargeBinaryArray, spec: CollectionSpec
) -> NDArray[np.bool_]:
    """bool [rows]: whether these rows of a segment have these codes of the store."""
    ends = part.segment.offsets.cpu().numpy()
    lengths = np.asarray(pc.binary_length(codes), np.int64) // spec.codec.bytes_per_token(spec.dim)
    same: NDArray[np.bool_] = np.diff(ends)[rows] == lengths
    rows, lengths = rows[same], lengths[same]
    if not len(rows):
        return same
    held = torch.from_numpy(_token_rows(ends[rows], lengths)).to(part.segment.device)
    given = _planes(spec, codes.filter(pa.array(same)), part.segment.device)
    differs = torch.zeros(len(held), dtype=torch.bool, device=part.segment.device)
    for mine, stored in zip(part.segment.columns, given, strict=True):
        if mine is not None and stored is not None:
            differs |= (mine[held] != stored).reshape(len(held), -1).any(dim=1)
    until = np.concatenate([np.zeros(1, np.int64), np.cumsum(differs.cpu().numpy())])
    bounds = _offsets(lengths)
    same[same] = until[bounds[1:]] == until[bounds[:-1]]
    return same


def merge_segments(parts: Sequence[IndexedSegment], spec: CollectionSpec) -> IndexedSegment | None:
    """One segment of the live rows of several, on their device; None where no row lives. Holds no copy beside it."""
    rows = [np.flatnonzero(part.live) for part in parts]
    if not sum(map(len, rows)):
        return None
    offsets = [part.segment.offsets.cpu().numpy() for part in parts]
    packing = _Packing(
        spec,
        pa.concat_arrays([part.ids.take(pa.array(alive)) for part, alive in zip(parts, rows, strict=True)]),
        np.concatenate([part.addresses[alive] for part, alive in zip(parts, rows, strict=True)]),
        np.concatenate([np.diff(ends)[alive] for ends, alive in zip(offsets, rows, strict=True)]),
        parts[0].segment.device,
        parts[0].segment.codebook,
    )
    first = 0
    for part, ends, alive in zip(parts, offsets, rows, strict=True):
        for begin in range(0, len(alive), _ROWS_PER_COPY):
            some = alive[begin : begin + _ROWS_PER_COPY]
            source = torch.from_numpy(_token_rows(ends[some], np.diff(ends)[some])).to(part.segment.device)
            picked = _each_plane(lambda plane, at=source: plane[at], part.segment.columns)
            packing.put(slice(first, first + len(some)), picked)
            first += len(some)
    return replace(packing.done(), inverted=ListsSlot(wanted=any(part.inverted.wanted for part in parts)))


class _Packing:
    """A segment on its way: documents come in the order that they were announced in, and lie in the order of ids."""

    def __init__(
        self,
        spec: CollectionSpec,
        ids: pa.LargeStringArray,
        addresses: NDArray[np.uint64],
        tokens: NDArray[np.int64],
        device: torch.device,
        codebook: Codebook | None,
    ) -> None:
        self._spec = spec
        self._codebook = codebook
        order = np.asarray(pc.sort_indices(ids))
        self._ids = ids.take(pa.array(order))
        self._addresses = addresses[order]
        self._tokens = tokens
        self._offsets = _offsets(tokens[order])
        self._starts = np.empty(len(order), np.int64)
        self._starts[order] = self._offsets[:-1]
        nothing = spec.codec.split(
            torch.empty((0, spec.codec.bytes_per_token(spec.dim)), dtype=torch.uint8, device=device)
        )
        self._planes = _each_plane(lambda plane: plane.new_empty((int(tokens.sum()), *plane.shape[1:])), nothing)

    def put(self, rows: slice, planes: Columns) -> None:
        """The tokens of these documents, one document after the other."""
        places = torch.from_numpy(_token_rows(self._starts[rows], self._tokens[rows])).to(planes.codes.device)
        _each_plane(lambda whole, some: whole.index_copy_(0, places, some), self._planes, planes)

    def done(self) -> IndexedSegment:
        """All of them alive."""
        live = np.ones(len(self._ids), np.bool_)
        codes, scales, centroid_ids = self._planes
        offsets = torch.from_numpy(self._offsets).to(codes.device)
        bitmap = pack_bitmap(live).to(codes.device)
        segment = Segment(
            self._spec.codec, self._spec.dim, codes, offsets, bitmap, scales, centroid_ids, self._codebook
        )
        return IndexedSegment(segment, self._ids, self._addresses, live)


def _each_plane(function: Callable[..., torch.Tensor], *tokens: Columns) -> Columns:
    """Applies a function to each plane that the codec has."""
    codes, scales, centroid_ids = (
        None if planes[0] is None else function(*planes) for planes in zip(*tokens, strict=True)
    )
    assert codes is not None
    return Columns(codes, scales, centroid_ids)


def _slices(tokens: NDArray[np.int64], max_tokens: int) -> list[slice]:
    """The documents of each segment."""
    segment = (np.cumsum(tokens) - tokens) // max_tokens
    bounds = [*np.flatnonzero(np.diff(segment, prepend=-1)).tolist(), len(tokens)]
    return [slice(first, end) for first, end in pairwise(bounds)]


def _offsets(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(tokens, dtype=np.int64)])


def _token_rows(starts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The token rows of documents that start at `starts`, one document after the other, [sum of tokens]."""
    within = np.arange(int(tokens.sum()), dtype=np.int64) - np.repeat(_offsets(tokens)[:-1], tokens)
    return np.repeat(starts, tokens) + within


def _planes(spec: CollectionSpec, codes: pa.LargeBinaryArray, device: torch.device) -> Columns:
    """The tokens of documents as the store has them, one document after the other."""
    read = _packed_bytes(codes).reshape(-1, spec.codec.bytes_per_token(spec.dim))
    return spec.codec.split(torch.from_numpy(read.copy()).to(device))


def _packed_bytes(codes: pa.LargeBinaryArray) -> NDArray[np.uint8]:
    """The bytes of all values, one after the other, without a copy: that is how Arrow keeps them."""
    ends = np.frombuffer(codes.buffers()[1], np.int64)[codes.offset : codes.offset + len(codes) + 1]
    data = codes.buffers()[2]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.empty(0, np.uint8)
