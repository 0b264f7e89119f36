"""Loads rows of a collection from the store into segments, within a memory budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tridex.index.errors import MemoryBudgetError
from tridex.index.storage.collection import Collection, Size, large_ids
from tridex.index.storage.duplicate_ids import is_newest
from tridex.index.storage.spec import CollectionSpec
from tridex.kernels import Codebook

from .budget import MAX_DELETED_SHARE, MemoryBudget, needed_bytes
from .indexed_segment import IndexedSegment
from .packing import ROWS_PER_COPY, Packing, columns_of, offsets_of, token_rows

_READ_AHEAD_BYTES = 128 * 2**20
"""What Lance holds of codes that are not packed yet; it takes 2 GiB by itself."""


class SegmentLoader:
    """Loads one collection's rows into segments on one device.

    Args:
        collection: At any version.
        device: Where the segments will be.
        segment_bytes: Codes of the largest segment; less where `budget` says so.
        budget: What memory is reserved in; None for no limit.
    """

    def __init__(
        self, collection: Collection, device: torch.device, segment_bytes: int, budget: MemoryBudget | None
    ) -> None:
        spec = collection.spec
        if budget is not None:
            segment_bytes = min(segment_bytes, budget.segment_bytes)
        self.max_tokens = max(segment_bytes // spec.codec.bytes_per_token(spec.dim), 1)
        self._device = device
        self._budget = budget
        self._host_codebook = collection.codebook
        self._size = Size()

    @cached_property
    def _codebook(self) -> Codebook | None:
        """On the device; all of the collection's segments share it."""
        return None if self._host_codebook is None else self._host_codebook.to(self._device)

    def reserve(self, collection: Collection, added: Sequence[lance.LanceFragment] | None = None) -> None:
        """Reserves memory before anything is loaded.

        Args:
            collection: At the version that will be loaded.
            added: The fragments that come to what is loaded already; None for the whole collection anew.

        Raises:
            MemoryBudgetError: The budget has no room.
        """
        if self._budget is None:
            return
        size = collection.size() if added is None else self._size + collection.size(added)
        if size.documents * (1 - MAX_DELETED_SHARE) > collection.count():
            size = collection.size()  # Many of those counted were replaced or deleted since.
        try:
            self._budget.reserve(collection, needed_bytes(collection.spec, size, collection.codebook))
        except MemoryBudgetError:
            if added is None:
                raise
            # Rows that these replace, or that were deleted, are counted still.
            size = collection.size()
            self._budget.reserve(collection, needed_bytes(collection.spec, size, collection.codebook))
        self._size = size

    def load(
        self,
        collection: Collection,
        fragments: Sequence[lance.LanceFragment],
        only: NDArray[np.uint64] | None = None,
    ) -> list[IndexedSegment]:
        """Reads rows into segments of at most `max_tokens` tokens and one document more.

        Two passes: ids and lengths say where each document goes, then its codes go straight there, so the host holds
        one batch of codes at a time beside the packed result.

        Args:
            collection: At the version to load.
            fragments: The fragments to read. Where an id comes twice in them, the newest row is read.
            only: The addresses of the rows to read; all of them where None.
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
        slices = _slices(tokens, self.max_tokens)
        packings = [
            Packing(spec, ids[rows.start : rows.stop], addresses[rows], tokens[rows], self._device, self._codebook)
            for rows in slices
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
                    columns = columns_of(spec, codes.slice(begin - first, stop - begin), self._device)
                    packing.put(slice(begin - rows.start, stop - rows.start), columns)
            first = end
        return [packing.done() for packing in packings]


def read_codes(collection: Collection, fragments: Sequence[lance.LanceFragment]) -> Iterator[pa.RecordBatch]:
    """The codes of these fragments' live rows, some rows at a time, in the store's order."""
    scanner = collection.dataset.scanner(
        columns=["codes"],
        fragments=fragments,
        batch_size=ROWS_PER_COPY,
        io_buffer_size=_READ_AHEAD_BYTES,
        scan_in_order=True,
    )
    yield from scanner.to_batches()


def same_codes(
    segment: IndexedSegment, rows: NDArray[np.int64], codes: pa.LargeBinaryArray, spec: CollectionSpec
) -> NDArray[np.bool_]:
    """bool [rows]: whether these rows of a segment have these codes of the store."""
    ends = segment.packed.offsets.cpu().numpy()
    lengths = np.asarray(pc.binary_length(codes), np.int64) // spec.codec.bytes_per_token(spec.dim)
    same: NDArray[np.bool_] = np.diff(ends)[rows] == lengths
    rows, lengths = rows[same], lengths[same]
    if not len(rows):
        return same
    held = torch.from_numpy(token_rows(ends[rows], lengths)).to(segment.packed.device)
    given = columns_of(spec, codes.filter(pa.array(same)), segment.packed.device)
    differs = torch.zeros(len(held), dtype=torch.bool, device=segment.packed.device)
    for mine, stored in zip(segment.packed.columns, given, strict=True):
        if mine is not None and stored is not None:
            differs |= (mine[held] != stored).reshape(len(held), -1).any(dim=1)
    until = np.concatenate([np.zeros(1, np.int64), np.cumsum(differs.cpu().numpy())])
    bounds = offsets_of(lengths)
    same[same] = until[bounds[1:]] == until[bounds[:-1]]
    return same


def _slices(tokens: NDArray[np.int64], max_tokens: int) -> list[slice]:
    """The documents of each segment."""
    segment = (np.cumsum(tokens) - tokens) // max_tokens
    bounds = [*np.flatnonzero(np.diff(segment, prepend=-1)).tolist(), len(tokens)]
    return [slice(first, end) for first, end in pairwise(bounds)]
