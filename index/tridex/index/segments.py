"""Packs rows of the store into segments in device memory, and keeps what leads from a row back to its document."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tridex.kernels import Codec, Planes, Segment, pack_bitmap

from .candidates import ListsSlot
from .collection import Collection

_ROWS_PER_READ = 1024
_FRAGMENT_SHIFT = 32
"""Lance's row address: fragment id in the upper 32 bits, position in the fragment below."""


@dataclass(frozen=True)
class IndexedSegment:
    """A segment and its rows' documents. Rows are sorted by id, so the kernels' order of ties is the order of ids."""

    segment: Segment
    ids: list[str]
    addresses: NDArray[np.uint64]
    """[documents], where each row lies in the store."""
    live: NDArray[np.bool_]
    """[documents], what the segment's bitmap says."""
    inverted: ListsSlot = field(default_factory=ListsSlot)

    def row_of(self, key: str) -> int | None:
        """The live row that holds this id."""
        row = bisect_left(self.ids, key)
        return row if row < len(self.ids) and self.ids[row] == key and self.live[row] else None

    def with_live(self, live: NDArray[np.bool_]) -> IndexedSegment:
        """The same rows with other ones alive."""
        return IndexedSegment(self.segment.with_live(pack_bitmap(live)), self.ids, self.addresses, live, self.inverted)

    def live_after(self, collection: Collection, fragments: set[int]) -> NDArray[np.bool_]:
        """Which rows live on, [documents], now that the deletes of `fragments` have changed."""
        changed = np.isin(self.addresses >> np.uint64(_FRAGMENT_SHIFT), np.fromiter(fragments, np.uint64))
        return self.live & (~changed | np.isin(self.addresses, _live_addresses(collection, fragments)))


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


def load_segment(
    collection: Collection, fragments: Sequence[lance.LanceFragment], device: torch.device
) -> IndexedSegment | None:
    """Reads fragments of the store into one segment on `device`; None where they hold no live row.

    Two passes: ids and lengths say where each document goes, then its codes go straight there, so the host holds one
    batch of codes at a time beside the packed result.
    """
    dataset = collection.dataset
    spec = collection.spec
    heads = dataset.scanner(columns=["id", "tokens"], fragments=fragments, with_row_address=True).to_table()
    if not heads.num_rows:
        return None
    order = np.asarray(pc.sort_indices(heads["id"]))
    addresses = np.asarray(heads["_rowaddr"], np.uint64)[order]
    tokens = np.asarray(heads["tokens"], np.int64)
    offsets = _offsets(tokens[order])
    start_of_row = np.empty(len(order), np.int64)
    start_of_row[order] = offsets[:-1]

    row_bytes = spec.codec.bytes_per_token(spec.dim)
    nothing = spec.codec.split(torch.empty((0, row_bytes), dtype=torch.uint8, device=device))
    planes = _each_plane(lambda plane: plane.new_empty((int(offsets[-1]), *plane.shape[1:])), nothing)
    first = 0
    reader = dataset.scanner(columns=["codes"], fragments=fragments, batch_size=_ROWS_PER_READ, scan_in_order=True)
    for batch in reader.to_batches():
        rows = slice(first, first + batch.num_rows)
        target = torch.from_numpy(_token_rows(start_of_row[rows], tokens[rows])).to(device)
        source = torch.from_numpy(_packed_bytes(batch["codes"]).reshape(len(target), row_bytes).copy()).to(device)
        _each_plane(lambda plane, values, to=target: plane.index_copy_(0, to, values), planes, spec.codec.split(source))
        first += batch.num_rows
    return IndexedSegment(
        segment=_segment(spec.codec, spec.dim, planes, offsets),
        ids=heads["id"].take(pa.array(order)).to_pylist(),
        addresses=addresses,
        live=np.ones(len(order), np.bool_),
    )


def merge_segments(parts: Sequence[IndexedSegment]) -> IndexedSegment | None:
    """One segment of the live rows of several, on their device; None where no row lives."""
    ids = np.concatenate([np.asarray(part.ids, object)[part.live] for part in parts])
    if not len(ids):
        return None
    order = np.argsort(ids, kind="stable")
    tokens = np.concatenate([np.diff(part.segment.offsets.cpu().numpy())[part.live] for part in parts])
    starts = np.concatenate([part.segment.offsets.cpu().numpy()[:-1][part.live] + base for part, base in _bases(parts)])
    segment = parts[0].segment
    rows = torch.from_numpy(_token_rows(starts[order], tokens[order])).to(segment.device)
    planes = _each_plane(lambda *planes: torch.cat(planes)[rows], *(part.segment.planes for part in parts))
    return IndexedSegment(
        segment=_segment(segment.codec, segment.dim, planes, _offsets(tokens[order])),
        ids=ids[order].tolist(),
        addresses=np.concatenate([part.addresses[part.live] for part in parts])[order],
        live=np.ones(len(ids), np.bool_),
        inverted=ListsSlot(wanted=any(part.inverted.wanted for part in parts)),
    )


def _segment(codec: Codec, dim: int, planes: Planes, offsets: NDArray[np.int64]) -> Segment:
    """A segment of live documents on the device of the planes."""
    device = planes.codes.device
    live = pack_bitmap(np.ones(len(offsets) - 1, np.bool_))
    codes, scales, centroid_ids = planes
    return Segment(codec, dim, codes, torch.from_numpy(offsets).to(device), live.to(device), scales, centroid_ids)


def _each_plane(function: Callable[..., torch.Tensor], *tokens: Planes) -> Planes:
    """Applies a function to each plane that the codec has."""
    codes, scales, centroid_ids = (
        None if planes[0] is None else function(*planes) for planes in zip(*tokens, strict=True)
    )
    assert codes is not None
    return Planes(codes, scales, centroid_ids)


def _bases(parts: Sequence[IndexedSegment]) -> list[tuple[IndexedSegment, int]]:
    """Each part with the number of tokens in the parts before it."""
    bases = np.concatenate([[0], np.cumsum([len(part.segment.codes) for part in parts])])
    return [(part, int(base)) for part, base in zip(parts, bases[:-1], strict=True)]


def _offsets(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(tokens, dtype=np.int64)])


def _token_rows(starts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The token rows of documents that start at `starts`, one document after the other, [sum of tokens]."""
    within = np.arange(int(tokens.sum()), dtype=np.int64) - np.repeat(_offsets(tokens)[:-1], tokens)
    return np.repeat(starts, tokens) + within


def _packed_bytes(codes: pa.LargeBinaryArray) -> NDArray[np.uint8]:
    """The bytes of all values, one after the other, without a copy: that is how Arrow keeps them."""
    ends = np.frombuffer(codes.buffers()[1], np.int64)[codes.offset : codes.offset + len(codes) + 1]
    data = codes.buffers()[2]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.empty(0, np.uint8)
