"""Merging small segments, and packing those with many deleted rows again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from tridex.index.storage.spec import CollectionSpec

from .budget import MAX_DELETED_SHARE
from .indexed_segment import IndexedSegment
from .inverted_lists import ListsSlot
from .packing import ROWS_PER_COPY, Packing, each_plane, token_rows

_MERGE_RATIO = 8
"""A segment that is not this many times larger than the next newer one is merged with it: the number of segments stays
logarithmic in the number of upserts, and every row is copied a logarithmic number of times. At a ratio of 2, maxsim
took 18 ms for a lone query just after 3,411 documents came 64 at a time, and 14 to 15 ms in other runs on one segment
(two CPU cores; not side by side, and 8 itself was not measured)."""


def next_merge(segments: Sequence[IndexedSegment], max_tokens: int) -> slice | None:
    """The neighbours to merge next, or the one to pack again; None where there is nothing to do.

    Args:
        segments: A snapshot's, oldest first.
        max_tokens: Tokens of the largest segment that a merge may make.
    """
    for i, segment in enumerate(segments):
        if 1 - segment.live.mean() > MAX_DELETED_SHARE:
            return slice(i, i + 1)
    first, documents, tokens = len(segments), 0, 0
    for segment in reversed(segments):
        tokens += segment.packed.tokens
        if documents and (len(segment.ids) >= _MERGE_RATIO * documents or tokens > max_tokens):
            break
        documents += len(segment.ids)
        first -= 1
    return slice(first, len(segments)) if len(segments) - first > 1 else None


def merge_segments(segments: Sequence[IndexedSegment], spec: CollectionSpec) -> IndexedSegment | None:
    """One segment of the live rows of several, on their device; None where no row lives. Holds no copy beside it."""
    rows = [np.flatnonzero(segment.live) for segment in segments]
    if not sum(map(len, rows)):
        return None
    offsets = [segment.packed.offsets.cpu().numpy() for segment in segments]
    packing = Packing(
        spec,
        pa.concat_arrays([segment.ids.take(pa.array(live)) for segment, live in zip(segments, rows, strict=True)]),
        np.concatenate([segment.addresses[live] for segment, live in zip(segments, rows, strict=True)]),
        np.concatenate([np.diff(ends)[live] for ends, live in zip(offsets, rows, strict=True)]),
        segments[0].packed.device,
        segments[0].packed.codebook,
    )
    first = 0
    for segment, ends, live in zip(segments, offsets, rows, strict=True):
        for begin in range(0, len(live), ROWS_PER_COPY):
            some = live[begin : begin + ROWS_PER_COPY]
            source = torch.from_numpy(token_rows(ends[some], np.diff(ends)[some])).to(segment.packed.device)
            picked = each_plane(lambda plane, at=source: plane[at], segment.packed.planes)
            packing.put(slice(first, first + len(some)), picked)
            first += len(some)
    return replace(packing.done(), inverted=ListsSlot(wanted=any(segment.inverted.wanted for segment in segments)))
