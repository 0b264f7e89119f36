"""A collection while a bulk build makes it: it has a folder and documents, and a name that leads nowhere yet.

So nobody searches it or writes to it but the process that builds, which holds a lock on the folder as long as it lives.
What is committed stays when that process dies, and the next one goes on from there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tridex.index.errors import CollectionInUseError

from .collection import Collection
from .compaction import clean_up_alone
from .document_rows import Document

_COMMITS_PER_FRAGMENT = 64
"""Fragments of so many transactions are merged into one: every transaction writes the list of all fragments anew."""


@dataclass(frozen=True)
class Build:
    """An unfinished collection, locked until the block ends.

    Attributes:
        collection: What is there so far.
        source: What it is built from, as the builder said when it began.
    """

    collection: Collection
    source: str
    _lock: int

    def __enter__(self) -> Build:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def append(self, documents: Sequence[Document], embeddings: Iterable[NDArray[np.float32]]) -> None:
        """Commits documents whose ids are not there yet, and merges small fragments where there are many.

        Args and Raises as `Collection.upsert`, except that ids are not looked up.
        """
        self.append_rows(self.collection.rows_of(documents, embeddings))

    def append_rows(self, rows: pa.Table) -> None:
        """As `append`, with rows that `Collection.rows_of` made."""
        version = self.collection.append_rows(rows)
        if version % _COMMITS_PER_FRAGMENT == 0:
            self.tidy()

    def tidy(self) -> None:
        """Merges small fragments, and removes what nobody reads: older versions, halves of killed writes."""
        self.collection.compact(copy_pages=True)
        clean_up_alone(self.collection.dataset)


def lock_folder(name: str, folder: Path) -> int:
    """Locks a folder for this process; the lock ends with the file descriptor. Raises CollectionInUseError."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise CollectionInUseError(f"collection {name!r} is being built by another process") from None
    return lock
