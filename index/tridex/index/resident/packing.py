"""Packs rows of the store into a segment in device memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tridex.index.storage.spec import CollectionSpec
from tridex.kernels import Codebook, Columns, Segment, pack_bitmap, split_rows

from .indexed_segment import IndexedSegment

ROWS_PER_COPY = 1024
"""Documents whose codes are read or moved at a time. A merge runs beside searches, which wait for Python's lock no
longer than one such step holds it."""


class Packing:
    """A segment that is being packed: documents come in the order of announcement, and are put in the order of ids.

    Args:
        spec: The collection's.
        ids: [documents], as announced.
        addresses: uint64 [documents]: where each row is in the store.
        tokens: int64 [documents]: each document's number of tokens.
        device: Where the segment will be.
        codebook: The collection's on that device, for a residual codec.
    """

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
        self._offsets = offsets_of(tokens[order])
        self._starts = np.empty(len(order), np.int64)
        self._starts[order] = self._offsets[:-1]
        nothing = split_rows(
            spec.codec, torch.empty((0, spec.codec.bytes_per_token(spec.dim)), dtype=torch.uint8, device=device)
        )
        self._columns = each_column(lambda column: column.new_empty((int(tokens.sum()), *column.shape[1:])), nothing)

    def put(self, rows: slice, columns: Columns) -> None:
        """The tokens of these documents, one document after the other."""
        places = torch.from_numpy(token_rows(self._starts[rows], self._tokens[rows])).to(columns.codes.device)
        each_column(lambda whole, some: whole.index_copy_(0, places, some), self._columns, columns)

    def done(self) -> IndexedSegment:
        """The segment, with every row live."""
        live = np.ones(len(self._ids), np.bool_)
        codes, scales, centroid_ids = self._columns
        offsets = torch.from_numpy(self._offsets).to(codes.device)
        bitmap = pack_bitmap(live).to(codes.device)
        segment = Segment(
            self._spec.codec, self._spec.dim, codes, offsets, bitmap, scales, centroid_ids, self._codebook
        )
        return IndexedSegment(segment, self._ids, self._addresses, live)


def each_column(function: Callable[..., torch.Tensor], *tokens: Columns) -> Columns:
    """Applies a function to each column that the codec has."""
    codes, scales, centroid_ids = (
        None if columns[0] is None else function(*columns) for columns in zip(*tokens, strict=True)
    )
    assert codes is not None
    return Columns(codes, scales, centroid_ids)


def columns_of(spec: CollectionSpec, codes: pa.LargeBinaryArray, device: torch.device) -> Columns:
    """The tokens of documents as the store has them, one document after the other."""
    read = _joined_bytes(codes).reshape(-1, spec.codec.bytes_per_token(spec.dim))
    return split_rows(spec.codec, torch.from_numpy(read.copy()).to(device))


def offsets_of(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [documents + 1]: where each document's tokens start, and where the last one's end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(tokens, dtype=np.int64)])


def token_rows(starts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The token rows of documents that start at `starts`, one document after the other, [sum of tokens]."""
    within = np.arange(int(tokens.sum()), dtype=np.int64) - np.repeat(offsets_of(tokens)[:-1], tokens)
    return np.repeat(starts, tokens) + within


def _joined_bytes(codes: pa.LargeBinaryArray) -> NDArray[np.uint8]:
    """The bytes of all values, one after the other, without a copy: that is how Arrow keeps them."""
    ends = np.frombuffer(codes.buffers()[1], np.int64)[codes.offset : codes.offset + len(codes) + 1]
    data = codes.buffers()[2]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.empty(0, np.uint8)
