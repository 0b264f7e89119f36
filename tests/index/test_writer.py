"""One writer a store: a second process reads, and is told who writes; it takes over when that one is gone."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from faults import failing

from tridex.index import ReadOnlyStoreError, WriterLock


def _hold(store: Path, held: multiprocessing.synchronize.Event) -> None:
    WriterLock(store).acquire()
    held.set()
    time.sleep(60)


def test_a_second_process_is_told_who_writes_and_takes_over(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("spawn")
    held = processes.Event()
    other = processes.Process(target=_hold, args=(tmp_path, held), daemon=True)
    other.start()
    lock = WriterLock(tmp_path)
    try:
        assert held.wait(30)
        with pytest.raises(ReadOnlyStoreError, match=rf"process {other.pid} on \S+ since 2\d\d\d-.*refuses writes"):
            lock.acquire()
        assert not lock.held
    finally:
        other.kill()
        other.join()
    with lock:
        assert lock.held
    assert json.loads((tmp_path / ".writer").read_text())["pid"] == os.getpid()


def test_the_right_stays_until_it_is_released_and_keeps_threads_apart(tmp_path: Path) -> None:
    first, second = WriterLock(tmp_path), WriterLock(tmp_path)
    inside = []
    with first:
        waiting = threading.Thread(
            target=lambda: [first.__enter__(), inside.append(1), first.__exit__(None, None, None)]
        )
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive() and not inside
    waiting.join()
    with pytest.raises(ReadOnlyStoreError, match=f"process {os.getpid()} on"), second:
        pass
    first.release()
    with second:
        pass
    with pytest.raises(ReadOnlyStoreError):
        first.acquire()


def test_a_store_put_in_the_folders_place_is_locked_anew(tmp_path: Path) -> None:
    store = tmp_path / "store"
    lock = WriterLock(store)
    lock.acquire()
    shutil.move(store, tmp_path / "before")
    store.mkdir()
    lock.acquire()
    with pytest.raises(ReadOnlyStoreError, match="another server writes"):
        WriterLock(store).acquire()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_why_nothing_can_be_written_is_told(tmp_path: Path, code: int) -> None:
    lock = WriterLock(tmp_path)
    with failing(os, "open", lambda: OSError(code, os.strerror(code))):
        for _ in range(2):
            with pytest.raises(ReadOnlyStoreError, match=rf"the store {tmp_path}.*{os.strerror(code)}.*may read"):
                lock.acquire()
    lock.acquire()
