"""The refusal of upserts that would exceed the memory budget of the served collections."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import NamedTuple

from tridex.index import (
    Collection,
    CollectionSpec,
    MemoryBudget,
    Size,
    Store,
    TokenIndexError,
    check_room,
    needed_bytes,
)
from tridex.kernels import Codebook


def return_freed() -> None:
    """Returns freed memory to the system where the C library keeps it (glibc does, in every thread's own arena): 50 to
    110 MB after some thousand versions. Takes some milliseconds, beside other threads."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Counted(NamedTuple):
    """An upper bound of a collection's size: rows replaced or deleted since it was counted are still in it.

    Not the collection itself, which would keep files open that maintenance removes.
    """

    spec: CollectionSpec
    codebook: Codebook | None
    size: Size

    def need_with(self, more: Size) -> int:
        """Bytes that the collection needs with `more` documents."""
        return needed_bytes(self.spec, self.size + more, self.codebook)


class Admission:
    """Refuses upserts that the searching process could not load. For the one writer, which counts every write."""

    def __init__(self, store: Store, size: int) -> None:
        self._store = store
        self._budget = MemoryBudget(size)
        self._sizes: dict[Path, _Counted] = {}
        self._names: dict[str, Path | None] = {}
        """Where each collection is, as of `_stamp`."""
        self._stamp = -1

    def check(self, collection: Collection, more: Size) -> None:
        """Raises MemoryBudgetError where the collection with `more` documents does not fit beside the others."""
        others = self._others(collection)
        if others + self._size(collection).need_with(more) > self._budget.usable:
            self._sizes.clear()
            check_room(collection, self._size(collection).need_with(more), self._others(collection), self._budget)

    def wrote(self, collection: Collection, more: Size) -> None:
        """The documents that were checked have been written."""
        counted = self._size(collection)
        self._sizes[collection.folder] = counted._replace(size=counted.size + more)

    def _size(self, collection: Collection) -> _Counted:
        if collection.folder not in self._sizes:
            self._sizes[collection.folder] = _Counted(collection.spec, collection.codebook, collection.size())
        return self._sizes[collection.folder]

    def _others(self, collection: Collection) -> int:
        """Bytes of the other collections that are loaded: in the order of names, as long as there is room."""
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
                continue  # dropped, or corrupt and not loaded
            need = size.need_with(Size())
            if taken + need <= self._budget.usable:
                taken += need
                others += need * (folder != collection.folder)
        return others
