"""How much memory the served collections may take, and which upserts would take more."""

from __future__ import annotations

import ctypes
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


def return_freed() -> None:
    """Gives memory that was freed back to the system, where the C library has kept it (glibc does, in every thread's
    own arena): 50 to 110 MB after some thousand versions. Takes some milliseconds, beside other threads."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Counted(NamedTuple):
    """The size of a collection, or more: rows that were replaced or deleted since it was counted are in it still."""

    collection: Collection
    size: Size

    def need_with(self, more: Size) -> int:
        """What the collection needs with so many more."""
        return needed_bytes(self.collection.spec, self.size + more, self.collection.codebook)


class Admission:
    """Refuses what the searching process could not load. For the one writer: nobody adds to what it has counted."""

    def __init__(self, store: Store, size: int) -> None:
        self._store = store
        self._budget = MemoryBudget(size)
        self._sizes: dict[Path, _Counted] = {}
        self._names: dict[str, Path | None] = {}
        """Where each collection is, as of `_stamp`."""
        self._stamp = -1

    def check(self, collection: Collection, more: Size) -> None:
        """Raises MemoryBudgetError where the collection with these documents more does not fit beside the others."""
        others = self._others(collection)
        if others + self._size(collection).need_with(more) > self._budget.usable:
            self._sizes.clear()
            check_room(collection, self._size(collection).need_with(more), self._others(collection), self._budget)

    def wrote(self, collection: Collection, more: Size) -> None:
        """What was checked is in the collection."""
        counted = self._size(collection)
        self._sizes[collection.folder] = counted._replace(size=counted.size + more)

    def _size(self, collection: Collection) -> _Counted:
        if collection.folder not in self._sizes:
            self._sizes[collection.folder] = _Counted(collection, collection.size())
        return self._sizes[collection.folder]

    def _others(self, collection: Collection) -> int:
        """What the other collections take, those that are loaded: in the order of names, as long as there is room."""
        stamp, _ = self._store.stamp()
        if stamp != self._stamp:
            self._names, self._stamp = self._store.folders(), stamp
            for gone in self._sizes.keys() - set(self._names.values()) - {collection.folder}:
                del self._sizes[gone]
        taken, others = 0, 0
        for name, folder in self._names.items():
            try:
                known = self._sizes.get(folder) if folder else None
                size = known or self._size(self._store.open(name))
            except TokenIndexError:
                continue  # dropped, or damaged and not loaded
            need = size.need_with(Size())
            if taken + need <= self._budget.usable:
                taken += need
                others += need * (folder != collection.folder)
        return others
