"""Rewriting small and half deleted files of a dataset as large ones, and removing what nobody reads any more."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import lance

from .storage import open_dataset

_ATTEMPTS = 5
"""How often a compaction is tried where others write to the dataset."""

_ROWS_PER_FRAGMENT = 1 << 16
_ROWS_PER_COPY = 64
"""Rows that are decoded at a time: 6 MB of float32 codes of 200 tokens. Lance's own 8,192 would be 800 MB."""


def compact(dataset: lance.LanceDataset, *, copy_pages: bool = False) -> lance.LanceDataset:
    """Rewrites what is worth it, in one transaction; the dataset at the version that this made, or found.

    The old files stay for those who read older versions, until clean_up. Who else writes meanwhile may make it start
    anew, a few times. With `copy_pages`, pages without deleted rows are copied undecoded: 64 files of 10 MB took 0.4 s
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


def is_compaction(dataset: lance.LanceDataset, version: int) -> bool:
    """Whether that version moved rows and changed none. Raises OSError where it is cleaned up."""
    transaction = dataset.read_transaction(version)
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
