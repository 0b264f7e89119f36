"""From the snapshot of one version to that of a newer one, by as little loading as what is known of the store allows.

New rows become segments, deletes clear bits. Compactions move rows within the store: where its history says which ones,
the rows stay in device memory and only their addresses change; where it does not, rows are compared by id and codes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tridex.index.errors import MemoryBudgetError
from tridex.index.storage.collection import Collection
from tridex.index.storage.duplicate_ids import is_newest
from tridex.index.storage.failure_kinds import is_fault
from tridex.index.storage.lance_session import forget_cached

from .indexed_segment import IndexedSegment
from .segment_loader import SegmentLoader, read_codes, same_codes
from .snapshot import Snapshot

_log = logging.getLogger(__name__)


class _UnknownHistoryError(Exception):
    """The store's history does not say where rows are now."""


def first_snapshot(collection: Collection, loader: SegmentLoader) -> Snapshot:
    """The snapshot of a collection of which nothing is loaded yet. Raises MemoryBudgetError."""
    fragments = collection.dataset.get_fragments()
    loader.reserve(collection, fragments)
    return _snapshot(collection, loader.load(collection, fragments))


def later_snapshots(snapshot: Snapshot, newest: Collection, loader: SegmentLoader) -> Iterator[Snapshot]:
    """Yields the snapshots from the one after `snapshot` to that of `newest`.

    There are several where the store was compacted meanwhile. Each is complete, so that what was reached can be kept
    where a later step fails.

    Raises:
        MemoryBudgetError: There is no room for the rows to load.
    """
    if newest.version < snapshot.version:
        # A backup took the files' place, so nothing of what is loaded is what its number says.
        forget_cached()
        newest = newest.latest()
        gone = set(_deletions(snapshot.collection))
        yield _compare(snapshot, newest, gone, newest.dataset.get_fragments(), loader)
        return
    reached, history_is_known = snapshot, True
    try:
        for reached in _through_compactions(snapshot, newest, loader):
            yield reached
    except MemoryBudgetError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        _log.info("collection %r: rows are compared, as the history cannot be followed (%s)", newest.name, error)
        history_is_known = False
    if history_is_known:
        yield _follow(reached, newest, loader)
    else:
        before, after = set(_deletions(reached.collection)), set(_deletions(newest))
        yield _compare(reached, newest, before - after, newest.fragments(after - before), loader)


def _through_compactions(snapshot: Snapshot, newest: Collection, loader: SegmentLoader) -> Iterator[Snapshot]:
    """Follows the store's compactions, one by one: the rows stay in memory and are found elsewhere in the store.

    Raises _UnknownHistoryError where ids are duplicate, and what else Lance raises where a version is cleaned up or
    cannot be read.
    """
    if not _deletions(snapshot.collection).keys() - _deletions(newest).keys():
        return
    for version in newest.compactions_since(snapshot.version):
        snapshot = _follow(snapshot, newest.at(version - 1), loader)
        yield snapshot
        if snapshot.duplicates:
            raise _UnknownHistoryError(f"{snapshot.duplicates} rows have ids that another row has too")
        compacted = newest.at(version)
        before, after = _deletions(snapshot.collection).keys(), _deletions(compacted).keys()
        ids, addresses = compacted.rows(compacted.fragments(after - before))
        gone = before - after
        snapshot = Snapshot(compacted, tuple(segment.relocated(gone, ids, addresses) for segment in snapshot.segments))
        yield snapshot


def _follow(snapshot: Snapshot, collection: Collection, loader: SegmentLoader) -> Snapshot:
    """The snapshot of `collection`, to which no row was moved since `snapshot`."""
    before, after = _deletions(snapshot.collection), _deletions(collection)
    changed = {fragment for fragment, count in before.items() if after.get(fragment) != count}
    segments = list(snapshot.segments)
    if changed:
        segments = [segment.with_live(segment.live_after(collection, changed)) for segment in segments]
    added = collection.fragments(after.keys() - before.keys())
    loader.reserve(collection, added)
    return _joined(collection, segments, added, loader)


def _compare(
    snapshot: Snapshot,
    newest: Collection,
    gone: set[int],
    added: Sequence[lance.LanceFragment],
    loader: SegmentLoader,
) -> Snapshot:
    """The snapshot of `newest`, where nothing says what became of the rows of the fragments that are gone.

    They are looked for in the added fragments, by id and codes, so that only what changed is loaded.
    """
    before, after = _deletions(snapshot.collection), _deletions(newest)
    changed = {fragment for fragment in before.keys() - gone if before[fragment] != after.get(fragment)}
    segments = [segment.with_live(segment.live_after(newest, changed)) for segment in snapshot.segments]
    moved = [segment.addresses.copy() for segment in segments]
    found = [segment.live & ~segment.lies_in(gone) for segment in segments]
    ids, addresses = newest.rows(added)
    unseen = is_newest(ids, addresses)
    end = 0
    for batch in read_codes(newest, added):
        first, end = end, end + len(batch)
        for segment, place, live in zip(segments, moved, found, strict=True):
            rows = segment.rows_of(ids[first:end])
            some = np.flatnonzero((rows >= 0) & unseen[first:end])
            some = some[~live[rows[some]]]
            some = some[same_codes(segment, rows[some], batch["codes"].take(pa.array(some)), newest.spec)]
            place[rows[some]] = addresses[first:end][some]
            live[rows[some]] = True
            unseen[first + some] = False
    loader.reserve(newest)
    kept = [
        replace(segment, addresses=place).with_live(live)
        for segment, place, live in zip(segments, moved, found, strict=True)
    ]
    return _joined(newest, kept, added, loader, addresses[unseen])


def _joined(
    collection: Collection,
    segments: list[IndexedSegment],
    added: Sequence[lance.LanceFragment],
    loader: SegmentLoader,
    only: NDArray[np.uint64] | None = None,
) -> Snapshot:
    """These segments and the rows of added fragments, all or some. An added row is the newest of its id."""
    loaded = loader.load(collection, added, only) if added and (only is None or len(only)) else []
    for newer in loaded:
        segments = [segment.without(newer.ids) for segment in segments]
    return _snapshot(collection, [*segments, *loaded])


def _snapshot(collection: Collection, segments: Sequence[IndexedSegment]) -> Snapshot:
    live = sum(int(segment.live.sum()) for segment in segments)
    return Snapshot(collection, tuple(segments), duplicates=max(collection.count() - live, 0))


def _deletions(collection: Collection) -> dict[int, int]:
    """Deleted rows of each fragment."""
    return {fragment.fragment_id: fragment.num_deletions for fragment in collection.dataset.get_fragments()}
