"""Admission to a device's memory: what a collection needs, and whether that is left of the budget.

A collection is held as packed segments, so what it needs follows from its documents and tokens before anything is read:

    packed = tokens * bytes a token + documents * BYTES_PER_DOCUMENT
    need = packed / (1 - MAX_DEAD_SHARE)

The sum of needs is kept below the budget less SPARE_SHARE. The spare is for what is there twice for a moment: a merge
copies live rows into a new segment, of at most SEGMENT_SHARE of the budget, while searches still read the old ones.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path

from .collection import Collection, CollectionSpec
from .errors import MemoryBudgetError

BYTES_PER_DOCUMENT = 160
"""Beside the codes: an id of 64 bytes, address, offset, and the live bits, also those of 32 remembered filters."""

MAX_DEAD_SHARE = 1 / 8
"""A segment with more dead rows than this is packed again."""

SPARE_SHARE = 1 / 8
SEGMENT_SHARE = 1 / 16


def packed_bytes(spec: CollectionSpec, documents: int, tokens: int) -> int:
    """What so many live documents take."""
    return tokens * spec.codec.bytes_per_token(spec.dim) + documents * BYTES_PER_DOCUMENT


def needed_bytes(spec: CollectionSpec, documents: int, tokens: int) -> int:
    """What so many live documents need, with the dead rows that lie between them until they are packed again."""
    return math.ceil(packed_bytes(spec, documents, tokens) / (1 - MAX_DEAD_SHARE))


def budget_for(need: int) -> int:
    """The budget of a server in which a collection that needs so many bytes has room, alone."""
    return math.ceil(need / (1 - SPARE_SHARE))


class MemoryBudget:
    """The bytes that collections may take on one device, and who has taken them. Thread-safe."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.usable = int(size * (1 - SPARE_SHARE))
        self.segment_bytes = max(int(size * SEGMENT_SHARE), 1)
        self._taken: dict[Path, int] = {}
        self._lock = threading.Lock()

    def reserve(self, collection: Collection, need: int) -> None:
        """Makes `need` bytes the collection's, whatever it had. Raises MemoryBudgetError, and leaves it what it had."""
        with self._lock:
            others = sum(taken for folder, taken in self._taken.items() if folder != collection.folder)
            check_room(collection, need, others, self)
            self._taken[collection.folder] = need

    def release(self, folder: Path) -> None:
        """The collection in that folder is gone."""
        with self._lock:
            self._taken.pop(folder, None)


def check_room(collection: Collection, need: int, others: int, budget: MemoryBudget) -> None:
    """Raises MemoryBudgetError, with the figures, where `need` does not fit beside what the others take."""
    if others + need > budget.usable:
        codec = collection.spec.codec
        raise MemoryBudgetError(
            f"collection {collection.name!r} needs {_bytes(need)} of device memory ({codec.value}: "
            f"{codec.bytes_per_token(collection.spec.dim)} bytes a token); {_bytes(max(budget.usable - others, 0))} "
            f"are left: of the budget of {_bytes(budget.size)}, other collections take {_bytes(others)} and "
            f"{_bytes(budget.size - budget.usable)} are kept for copying; raise the budget, make room, or index into a "
            "collection with a smaller codec"
        )


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"
