"""One writer a store: two that upsert the same new id at the same time would both insert it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from tridex.index.errors import ReadOnlyStoreError

from .collection_folders import folders_in
from .durability import remove_torn_versions
from .file_errors import write_errors

_FILE = ".writer"


class WriterLock:
    """The right to write to the collections of a store, for one process at a time; its file says who holds it.

    As a context manager it also keeps the threads of this process apart: one transaction at a time. A process that
    dies lets go. The registry has a lock of its own, and a bulk build locks the folder that it fills (unfinished.py),
    so both go on beside a server.

    Whoever takes the right removes the versions that a loss of power left torn (durability.py).

    Args:
        store: The store's folder.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._path = store / _FILE
        self._held: int | None = None
        self._changing = threading.Lock()
        self._transaction = threading.Lock()

    @property
    def held(self) -> bool:
        """Whether this process has the right."""
        return self._held is not None

    def acquire(self) -> None:
        """Takes the right where nobody else has it; at once where it is held already (3 µs).

        Raises:
            ReadOnlyStoreError: The message says who has it, or why this process cannot write at all.
        """
        with self._changing:
            if self._held is not None and self._is_current(self._held):
                return
            self._release()
            with write_errors(f"the store {self._store}"):
                self._store.mkdir(parents=True, exist_ok=True)
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.ftruncate(file, 0)
                    os.pwrite(file, json.dumps(_who()).encode(), 0)
                    for folder in folders_in(self._store / "collections"):
                        remove_torn_versions(folder)
                except BlockingIOError:
                    os.close(file)
                    raise ReadOnlyStoreError(
                        f"another server writes to the store {self._store} ({self._holder()}): this one serves "
                        "searches and refuses writes; write through that one, or stop it"
                    ) from None
                except BaseException:  # an interrupt, too: an open file would keep the lock for as long as we live
                    os.close(file)
                    raise
            self._held = file

    def release(self) -> None:
        """Gives the right up, for others to take."""
        with self._changing:
            self._release()

    def __enter__(self) -> None:
        """Raises as `acquire`."""
        self._transaction.acquire()
        try:
            self.acquire()
        except BaseException:  # `__exit__` is not called where this raises
            self._transaction.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transaction.release()

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _is_current(self, file: int) -> bool:
        """Whether it is still the store's file: where a backup took the folder's place, the lock holds nothing."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _holder(self) -> str:
        """Who holds it, in words."""
        try:
            who = json.loads(self._path.read_bytes())
            return f"process {who['pid']} on {who['host']} since {who['since']}"
        except (OSError, ValueError, TypeError, KeyError):
            return "it has not said who it is"


def _who() -> dict[str, str | int]:
    since = datetime.now(timezone.utc).isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
