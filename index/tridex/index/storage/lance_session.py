"""Opening Lance datasets, all with the caches of one session.

The caches keep files of BM25 indexes open, those of removed ones too, until they are full: a removed file takes its
room on the disk until it is closed. So they are forgotten now and then (7 ms instead of 5 for the next search of
100,000 texts), and datasets that stay open are opened again, with the caches of now.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import lance

_INDEX_CACHE_BYTES = 32 * 2**20
_METADATA_CACHE_BYTES = 8 * 2**20
"""What Lance keeps in the host's memory of BM25 indexes and lists of files, of all collections together. What belongs
to versions that are gone stays until the cache is full or forgotten, some 50 kB a version. Lance's own are 6 GiB and
1 GiB, for every dataset that is opened."""

_DESCRIPTORS = Path("/proc/self/fd")


@cache
def _session() -> Any:
    """What all datasets of this process share, made when the first one is opened: a fork before that is safe."""
    return lance.Session(  # type: ignore[attr-defined]
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )


def open_dataset(folder: str | Path, version: int | None = None) -> lance.LanceDataset:
    """The dataset in that folder at a version, the newest one where None."""
    return lance.dataset(str(folder), version, session=_session())


def has_forgotten_caches(dataset: lance.LanceDataset) -> bool:
    """Whether the caches were forgotten since the dataset was opened: it still has those of then."""
    return not dataset.session().is_same_as(_session())  # type: ignore[attr-defined]


def forget_cached() -> None:
    """Empties the caches: of a store whose files a backup replaced, they may be of another version now; of files that
    were removed, they keep some open."""
    _session.cache_clear()


def keeps_removed_files(folder: Path) -> bool:
    """Whether this process has files below that folder open that are removed (Linux; 0.1 ms for fifty open ones)."""
    below = f"{folder.resolve()}/"
    with suppress(OSError):  # no Linux, or no descriptor left to list them with
        for descriptor in _DESCRIPTORS.iterdir():
            with suppress(OSError):  # closed meanwhile
                target = str(descriptor.readlink())
                if target.startswith(below) and target.endswith(" (deleted)"):
                    return True
    return False
