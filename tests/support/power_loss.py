"""A loss of power without a disk to cut off: what a program has synced is kept, all the rest is gone.

Stricter than file systems are, which may also keep some of the rest, in any order: a name is lost unless its folder was
synced since, and a file that has a name and was never synced is empty.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock


class Disk:
    """What would be found in a folder after a loss of power.

    Args:
        root: The folder; its own name is taken to be safe.
        at_every_sync: Called before each sync, one at a time: the power may go there.
    """

    def __init__(self, root: Path, at_every_sync: Callable[[Disk], None] = lambda _: None) -> None:
        self.syncs = 0
        self._root = root
        self._at_every_sync = at_every_sync
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._open: list[int] = []
        self._lock = threading.Lock()

    @contextmanager
    def recorded(self) -> Iterator[Disk]:
        """Notes what is synced in the block."""
        try:
            with mock.patch.object(os, "fsync", self._sync):
                yield self
        finally:
            while self._open:
                os.close(self._open.pop())

    def after_power_loss(self, to: Path) -> Path:
        """Makes the folder as it would be found, at a place of its own."""
        shutil.rmtree(to, ignore_errors=True)
        self._make(self._root.stat().st_ino, to)
        return to

    def _sync(self, file: int) -> None:
        with self._lock:
            self._at_every_sync(self)
            self.syncs += 1
            about = os.fstat(file)
            self._open.append(os.dup(file))  # its number is not given to another file meanwhile
            if stat.S_ISDIR(about.st_mode):
                with os.scandir(file) as entries:
                    self._names[about.st_ino] = {e.name: (e.inode(), e.is_dir()) for e in entries}
            else:
                self._contents[about.st_ino] = Path(f"/proc/self/fd/{file}").read_bytes()

    def _make(self, folder: int, to: Path) -> None:
        to.mkdir()
        for name, (number, is_folder) in self._names.get(folder, {}).items():
            if is_folder:
                self._make(number, to / name)
            else:
                (to / name).write_bytes(self._contents.get(number, b""))
