"""Opening Lance datasets, all with the caches of one session."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import lance

_INDEX_CACHE_BYTES = 32 * 2**20
_METADATA_CACHE_BYTES = 8 * 2**20
"""What Lance keeps in the host's memory of BM25 indexes and lists of files, of all collections together. What belongs
to versions that are gone stays until the cache is full, some 50 kB a version: so it is full within minutes and grows no
more. Lance's own are 6 GiB and 1 GiB, for every dataset that is opened."""


@cache
def _session() -> Any:
    """What all datasets of this process share, made when the first one is opened: a fork before that is safe."""
    return lance.Session(  # type: ignore[attr-defined]
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )


def open_dataset(folder: str | Path) -> lance.LanceDataset:
    """The dataset in that folder at its newest version."""
    return lance.dataset(str(folder), session=_session())


def forget_cached() -> None:
    """Empties the caches: of a store whose files a backup replaced, they may be of another version now; of files that
    were removed, they keep some open."""
    _session.cache_clear()
