"""Admission to a device's memory: what a collection needs, and whether that is left of the budget.

A collection is held as packed segments, so what it needs follows from its size before anything is read:

    packed = tokens * bytes per token + documents * BYTES_PER_DOCUMENT + bytes of ids
    need = packed / (1 - MAX_DELETED_SHARE) + codebook

The sum of needs is kept below the budget less SPARE_SHARE. The spare is for what exists twice for a moment: a merge
copies live rows into a new segment, of at most SEGMENT_SHARE of the budget, while searches still read the old ones.
Making inverted lists takes of it, too: as much as they take themselves, and three times the tokens they train with.

Inverted lists (inverted_lists.py), search plans (search_plans.py) and approximations (approximations.py) are extras:
they take what the needs leave, and are let go where a collection needs more. Without them searches are slower, and not
wrong.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from tridex.index.errors import MemoryBudgetError
from tridex.index.storage.collection import Collection, Size
from tridex.index.storage.spec import CollectionSpec

if TYPE_CHECKING:
    from tridex.kernels import Codebook

BYTES_PER_DOCUMENT = 96
"""Beside codes and id: where the id is, address, offset, and the live bits, also those of 32 remembered filters."""

MAX_DELETED_SHARE = 1 / 8
"""A segment with more deleted rows than this is packed again."""

SPARE_SHARE = 1 / 8
SEGMENT_SHARE = 1 / 16


def packed_bytes(spec: CollectionSpec, size: Size) -> int:
    """What so many live documents take."""
    return size.tokens * spec.codec.bytes_per_token(spec.dim) + size.documents * BYTES_PER_DOCUMENT + size.id_bytes


def needed_bytes(spec: CollectionSpec, size: Size, codebook: Codebook | None = None) -> int:
    """What so many live documents need, with the deleted rows that lie between them until they are packed again.

    Args:
        spec: The collection's.
        size: Its live documents.
        codebook: Its codebook, for a residual codec.
    """
    shared = 0 if codebook is None else codebook.centroids.nbytes + codebook.bucket_weights.nbytes
    return math.ceil(packed_bytes(spec, size) / (1 - MAX_DELETED_SHARE)) + shared


def budget_for(need: int) -> int:
    """The budget of a server in which a collection that needs so many bytes has room, alone."""
    return math.ceil(need / (1 - SPARE_SHARE))


class Extra(Enum):
    """Kinds of extras; the last one gives way to all others. Searches have asked for the others."""

    INVERTED_LISTS = "inverted lists"
    SEARCH_PLANS = "search plans"
    APPROXIMATIONS = "approximations"


@dataclass(frozen=True)
class _Taken:
    """What a collection's extras of one kind take, and what drops them."""

    taken: int
    drop: Callable[[], None]


class MemoryBudget:
    """The bytes that collections may take on one device, and what each has taken. Thread-safe.

    Args:
        size: Bytes in all.

    Attributes:
        usable: Bytes that may be reserved: `size` less the spare.
        segment_bytes: Codes of the largest segment.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.usable = int(size * (1 - SPARE_SHARE))
        self.segment_bytes = max(int(size * SEGMENT_SHARE), 1)
        self._taken: dict[Path, int] = {}
        self._extras: dict[tuple[Path, Extra], _Taken] = {}
        self._lock = threading.Lock()

    def reserve(self, collection: Collection, need: int) -> None:
        """Makes `need` bytes the collection's, whatever it had.

        Extras are dropped where they are in the way.

        Raises:
            MemoryBudgetError: There is no room; it keeps what it had.
        """
        with self._lock:
            others = sum(taken for folder, taken in self._taken.items() if folder != collection.folder)
            check_room(collection, need, others, self)
            self._taken[collection.folder] = need
            self._make_room([Extra.APPROXIMATIONS])
            self._make_room([*Extra])

    def reserve_extra(self, collection: Collection, extra: Extra, need: int, drop: Callable[[], None]) -> None:
        """Makes `need` bytes the collection's for its extras of one kind, whatever they had.

        Args:
            collection: Whose they are.
            extra: Their kind.
            need: Bytes.
            drop: Called, by any thread, when the room is needed: the extras have to go.

        Raises:
            MemoryBudgetError: There is no room, and they keep what they had; or the collection was released.
        """
        with self._lock:
            if collection.folder not in self._taken:
                raise MemoryBudgetError(f"collection {collection.name!r} has been let go; it gets no {extra.value}")
            had = self._extras.get((collection.folder, extra))
            lesser = [] if extra is Extra.APPROXIMATIONS else [Extra.APPROXIMATIONS]
            left = self._left() + (had.taken if had else 0)
            left += sum(other.taken for (_, kind), other in self._extras.items() if kind in lesser)
            if need > left:
                raise MemoryBudgetError(
                    f"the {extra.value} of collection {collection.name!r} need {_bytes(need)} of device memory; "
                    f"{_bytes(max(left, 0))} are left of the budget of {_bytes(self.size)}: its searches do without"
                )
            self._extras[collection.folder, extra] = _Taken(need, drop)
            self._make_room(lesser)

    def taken(self, folder: Path) -> int:
        """Bytes that the collection in that folder has, its extras included."""
        with self._lock:
            return self._taken.get(folder, 0) + sum(
                extra.taken for (owner, _), extra in self._extras.items() if owner == folder
            )

    @property
    def used(self) -> int:
        """Bytes that collections and their extras have."""
        with self._lock:
            return self.usable - self._left()

    @property
    def needed(self) -> int:
        """Bytes that collections have without their extras, which give way to documents."""
        with self._lock:
            return sum(self._taken.values())

    def release(self, folder: Path) -> None:
        """Gives back what the collection in that folder had."""
        with self._lock:
            self._taken.pop(folder, None)
            for key in [key for key in self._extras if key[0] == folder]:
                del self._extras[key]

    def _left(self) -> int:
        return self.usable - sum(self._taken.values()) - sum(extra.taken for extra in self._extras.values())

    def _make_room(self, kinds: Sequence[Extra]) -> None:
        """Drops extras of these kinds, the newest first, while more is taken than there is."""
        for key in reversed([key for key in self._extras if key[1] in kinds]):
            if self._left() < 0:
                self._extras.pop(key).drop()


def check_room(collection: Collection, need: int, others: int, budget: MemoryBudget) -> None:
    """Checks that a collection has room.

    Args:
        need: Bytes that the collection needs, inclusive of what it has.
        others: Bytes that all other collections take.

    Raises:
        MemoryBudgetError: With the figures.
    """
    if others + need > budget.usable:
        codec = collection.spec.codec
        raise MemoryBudgetError(
            f"collection {collection.name!r} needs {_bytes(need)} of device memory ({codec.value}: "
            f"{codec.bytes_per_token(collection.spec.dim)} bytes per token); {_bytes(max(budget.usable - others, 0))} "
            f"are left: of the budget of {_bytes(budget.size)}, other collections take {_bytes(others)} and "
            f"{_bytes(budget.size - budget.usable)} are kept for copying; raise the budget, make room, or index into a "
            "collection with a smaller codec"
        )


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} bytes"
