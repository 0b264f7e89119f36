"""What it costs that a write survives a loss of power.

Upserts take turns on one file system: with the sync of `storage/durability.py`, with none, with fsync of the same files
one after the other, and with syncfs.

python -m benchmarks.durability --folder /data/somewhere
python -m benchmarks.durability --folder /data/somewhere --neighbour    another program writes 60 MB/s there
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table

from tridex.index import CollectionSpec, Document, Store
from tridex.kernels import Codec

DIM, TOKENS = 128, 100
DOCUMENTS = (1, 64)
NEIGHBOUR_BYTES, NEIGHBOUR_S = 1 << 20, 1 / 60

_libc = ctypes.CDLL(None, use_errno=True)


def syncfs(folder: Path) -> None:
    """All that any program has written to the file system."""
    file = os.open(folder, os.O_RDONLY)
    try:
        if _libc.syncfs(file):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(file)


_one = threading.Lock()
_fsync = os.fsync


def one_by_one(file: int) -> None:
    """The same files, one after the other."""
    with _one:
        _fsync(file)


class Way(NamedTuple):
    """What takes the place of fsync, and what is done when the write has returned."""

    fsync: Callable[[int], None]
    afterwards: Callable[[Path], None] = lambda _: None


WAYS = {
    "none": Way(lambda _: None),
    "files at once": Way(_fsync),
    "files one by one": Way(one_by_one),
    "syncfs": Way(lambda _: None, syncfs),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where a store is made, on the disk to measure")
    parser.add_argument("--upserts", type=int, default=100, help="of each kind")
    parser.add_argument("--neighbour", action="store_true", help="another program writes to the disk meanwhile")
    options = parser.parse_args()
    table = Table("documents", "sync", "p50, ms", "p90, ms", "p99, ms", title="an upsert")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, neighbour(Path(folder), options.neighbour):
        for documents in DOCUMENTS:
            for way, ms in measured(Path(folder), documents, options.upserts).items():
                table.add_row(str(documents), way, *(f"{one:.1f}" for one in np.percentile(ms, (50, 90, 99))))
    Console().print(table)


def measured(folder: Path, documents: int, upserts: int) -> dict[str, list[float]]:
    """Milliseconds of each upsert, by how it was synced: in an order that changes, each with a clean disk before it."""
    rng = np.random.default_rng(0)
    embeddings = [rng.standard_normal((TOKENS, DIM)).astype(np.float32)] * documents
    spec = CollectionSpec(DIM, Codec.FLOAT16, fingerprint="f" * 64)
    collections = {way: Store(folder / f"{documents} {way}").create("c", spec) for way in WAYS}
    ms: dict[str, list[float]] = {way: [] for way in WAYS}
    for upsert in range(upserts):
        rows = [Document(f"{upsert}-{number}", "some text", {}) for number in range(documents)]
        for way in random.Random(upsert).sample([*WAYS], len(WAYS)):
            syncfs(folder)
            with mock.patch.object(os, "fsync", WAYS[way].fsync):
                began = time.perf_counter()
                collections[way].upsert(rows, embeddings)
                WAYS[way].afterwards(folder)
                ms[way].append(1e3 * (time.perf_counter() - began))
    return ms


@contextmanager
def neighbour(folder: Path, is_there: bool) -> Iterator[None]:
    """Where it is there, a thread that writes to the same disk and syncs nothing."""
    stop = threading.Event()

    def write() -> None:
        block = os.urandom(NEIGHBOUR_BYTES)
        while not stop.is_set():
            with (folder / "neighbour").open("wb") as file:
                for _ in range(64):
                    file.write(block)
                    if stop.wait(NEIGHBOUR_S):
                        break

    thread = threading.Thread(target=write)
    if is_there:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if is_there:
            thread.join()


if __name__ == "__main__":
    main()
