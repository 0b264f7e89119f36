"""Rewriting small and half deleted files of a dataset as large ones, and removing what nobody reads any more.

A rewrite costs more than its rows: Lance also rewrites the partitions of the text index that know them (0.17 s for one
of 20,000 texts of 40 words). So `compact_some` rewrites few files at a time, young ones, whose partition is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import lance
from lance.optimize import Compaction, CompactionOptions

from .lance_session import open_dataset

_ATTEMPTS = 5
"""How often a compaction is tried where others write to the dataset."""

_ROWS_PER_FRAGMENT = 1 << 16
_ROWS_PER_COPY = 64
"""Rows that are decoded at a time: 6 MB of float32 codes of 200 tokens. Lance's own 8,192 would be 800 MB."""

_STEP_BYTES = 32 * 2**20
"""Files that one step rewrites: 0.1 s on one core, which writes wait for."""

_STEP_FILES = 64
_MIN_FILES = 8
_MIN_GROWTH = 4
"""Neighbours that are worth a merge: so many, whose rows together are so many times those of the largest; half of it
for twice as many, and four times as many are worth it whatever their sizes. A row is copied about once each time its
file grows by this factor, and fewer than 32 neighbours stay that could be merged."""

_DELETED_SHARE = 1 / 4
"""Deleted rows of a file that is worth rewriting."""

_DELETED_SHARE_OF_ALL = 1 / 8
_MIN_DELETED_BYTES = 2**20
"""What deleted rows take in such files that is worth a step: this share of all files, and so many bytes at least."""

_STEPS_TO_REWRITE_ALL = 16
"""At most so many steps for the deleted rows of a collection, however large it is."""


class _File(NamedTuple):
    """A fragment, as far as it matters here."""

    id: int
    live: int
    deleted: int
    bytes: int

    @property
    def is_full(self) -> bool:
        """Whether it is not merged any more."""
        return self.bytes >= _STEP_BYTES // 2 or self.live >= _ROWS_PER_FRAGMENT // 2

    @property
    def deleted_bytes(self) -> float:
        return self.bytes * self.deleted / (self.live + self.deleted)


def compact(dataset: lance.LanceDataset, *, copy_pages: bool = False) -> lance.LanceDataset:
    """Rewrites what is worth it, in one transaction; the dataset at the version that this made, or found.

    The old files stay for those who read older versions, until clean_up. A concurrent write may make it start anew, a
    few times. With `copy_pages`, pages without deleted rows are copied undecoded: 64 files of 10 MB took 0.4 s
    and 50 MB of memory instead of 1.8 s and 390 MB. That is for large writes: small ones would leave small pages.
    """
    for attempt in range(_ATTEMPTS):
        try:
            dataset.optimize.compact_files(
                target_rows_per_fragment=_ROWS_PER_FRAGMENT,
                batch_size=_ROWS_PER_COPY,
                num_threads=1,
                compaction_mode="try_binary_copy" if copy_pages else "reencode",
            )
            break
        except OSError as error:
            if "conflict" not in str(error).lower() or attempt == _ATTEMPTS - 1:
                raise
            dataset = open_dataset(dataset.uri)
    return dataset


def compact_some(dataset: lance.LanceDataset) -> bool:
    """Rewrites a few files in one transaction, where that is worth it; returns whether it was. For the one writer."""
    files = _files(dataset)
    chosen = {file.id for file in _worth_merging(files) or _worth_clearing(files)}
    if not chosen:
        return False
    options: CompactionOptions = {
        "target_rows_per_fragment": _ROWS_PER_FRAGMENT,
        "batch_size": _ROWS_PER_COPY,
        "num_threads": 1,
        "materialize_deletions_threshold": 0.0,
        "excluded_fragment_ids": [file.id for file in files if file.id not in chosen],
    }
    # Lance does not merge files that the text index knows with those that it does not, so there may be no task.
    rewritten = [task.execute(dataset) for task in Compaction.plan(dataset, options).tasks]
    if rewritten:
        Compaction.commit(dataset, rewritten, options)
    return bool(rewritten)


def _files(dataset: lance.LanceDataset) -> list[_File]:
    files = []
    for fragment in dataset.get_fragments():
        size = sum(file.file_size_bytes or 0 for file in fragment.metadata.files)
        deleted = fragment.num_deletions
        files.append(_File(fragment.fragment_id, fragment.physical_rows - deleted, deleted, size))
    return files


def _worth_merging(files: Sequence[_File]) -> Sequence[_File]:
    """The oldest neighbours that are worth it, as many of them as one step can take."""
    for first in range(len(files)):
        size = 0
        best: Sequence[_File] = ()
        rows = largest = 0
        for end, file in enumerate(files[first : first + _STEP_FILES], first + 1):
            size += file.bytes
            if file.is_full or size > _STEP_BYTES:
                break
            rows += file.live
            largest = max(largest, file.live)
            count = end - first
            if count >= _MIN_FILES and count // _MIN_FILES * rows >= _MIN_GROWTH * largest:
                best = files[first:end]
        if best:
            return best
    return ()


def _worth_clearing(files: Sequence[_File]) -> Sequence[_File]:
    """The oldest of the files with many deleted rows, where these files together have many."""
    half_deleted = [file for file in files if file.deleted > _DELETED_SHARE * (file.live + file.deleted)]
    everything = sum(file.bytes for file in files)
    if sum(file.deleted_bytes for file in half_deleted) < max(_MIN_DELETED_BYTES, _DELETED_SHARE_OF_ALL * everything):
        return ()
    room = max(_STEP_BYTES, everything // _STEPS_TO_REWRITE_ALL)
    chosen: list[_File] = []
    for file in half_deleted:
        room -= file.bytes
        if chosen and room < 0:
            break
        chosen.append(file)
    return chosen


def is_compaction(dataset: lance.LanceDataset, version: int) -> bool:
    """Whether that version moved rows and changed none. Raises OSError where it is cleaned up, and more."""
    try:
        transaction = dataset.read_transaction(version)
    except TypeError as error:
        # pylance 14 cannot make the RewrittenIndex of a compaction that moved rows of an index; nothing else has one.
        if "RewrittenIndex" not in str(error):
            raise
        return True
    return transaction is not None and isinstance(transaction.operation, lance.LanceOperation.Rewrite)


def clean_up(dataset: lance.LanceDataset, unread_for: timedelta) -> int:
    """Removes the versions that have not been the newest one for that long, and their files; returns the bytes."""
    latest = datetime.now() - unread_for
    versions: list[Any] = dataset.versions()
    old = [before["version"] for before, after in pairwise(versions) if after["timestamp"] <= latest]
    return int(dataset.cleanup_old_versions(versions=old).bytes_removed) if old else 0


def clean_up_alone(dataset: lance.LanceDataset) -> None:
    """Removes older versions and halves of killed writes, of a dataset that nobody else reads or writes."""
    dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
