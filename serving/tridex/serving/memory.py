"""How much memory the served collections may take, and which upserts would take more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch

from tridex.index import Collection, MemoryBudget, Size, Store, TokenIndexError, check_room, needed_bytes

_HOST_SHARE = 0.5
_GPU_SHARE = 0.85
"""Of all there is, so that every process of a server comes to the same; the encoder takes from the rest."""

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def default_budget(device: torch.device) -> int:
    """Bytes for collections on a device where the server was not told."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * _GPU_SHARE)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return int(min(there, int(limit) if limit.isdigit() else there) * _HOST_SHARE)


class _Counted(NamedTuple):
    """The size of a collection at a version; perhaps more than there is, where upserts replaced some."""

    collection: Collection
    size: Size

    def need_with(self, more: Size) -> int:
        """What the collection needs with so many more."""
        return needed_bytes(self.collection.spec, self.size + more, self.collection.codebook)


class Admission:
    """Refuses what the searching process could not load. For the one writer: it remembers the sizes it has counted."""

    def __init__(self, store: Store, size: int) -> None:
        self._store = store
        self._budget = MemoryBudget(size)
        self._sizes: dict[Path, _Counted] = {}

    def check(self, collection: Collection, more: Size) -> None:
        """Raises MemoryBudgetError where the collection with these documents more does not fit beside the others."""
        others = self._others(collection)
        if others + self._size(collection).need_with(more) > self._budget.usable:
            check_room(collection, self._count(collection).need_with(more), others, self._budget)

    def wrote(self, collection: Collection, more: Size) -> None:
        """What was checked is in the collection, which is at the version that this made."""
        self._sizes[collection.folder] = _Counted(collection, self._sizes[collection.folder].size + more)

    def _size(self, collection: Collection) -> _Counted:
        size = self._sizes.get(collection.folder)
        return size if size and size.collection.version == collection.version else self._count(collection)

    def _count(self, collection: Collection) -> _Counted:
        self._sizes[collection.folder] = _Counted(collection, collection.size())
        return self._sizes[collection.folder]

    def _others(self, collection: Collection) -> int:
        """What the other collections take, those that are loaded: in the order of names, as long as there is room."""
        taken, others = 0, 0
        there = set()
        for name in self._store.names():
            try:
                location = self._store.locate(name)
                known = self._sizes.get(location.folder)
                fresh = known and known.collection.latest_version() == known.collection.version
                size = known if known and fresh else self._count(self._store.open(name))
            except TokenIndexError:
                continue  # dropped, or damaged and not loaded
            there.add(location.folder)
            need = size.need_with(Size())
            if taken + need <= self._budget.usable:
                taken += need
                others += need * (location.folder != collection.folder)
        for folder in self._sizes.keys() - there - {collection.folder}:
            del self._sizes[folder]
        return others
