"""What goes on behind the writes: files stay few, old versions go, the text index is extended, and nothing is lost."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from eventually import eventually
from faults import OF_LANCE, failing

from tridex.index import Collection, CollectionSpec, Document, Store, StoreUnavailableError, WriterLock
from tridex.kernels import Codec
from tridex.serving.collections import maintenance
from tridex.serving.collections.maintenance import Maintenance
from tridex.serving.metrics.registry import Metrics

SPEC = CollectionSpec(4, Codec.FLOAT32, "f" * 64)
ONE = np.ones((2, 4), np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def writer(tmp_path: Path) -> WriterLock:
    return WriterLock(tmp_path)


@pytest.fixture
def tending(store: Store, writer: WriterLock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maintenance]:
    monkeypatch.setattr(maintenance, "UNREAD_FOR", timedelta(seconds=1))
    monkeypatch.setattr(maintenance, "_RETRY_S", 0.2)
    writer.acquire()
    tending = Maintenance(store, writer, Metrics())
    yield tending
    tending.close()


def put(collection: Collection, *keys: int) -> None:
    collection.upsert([Document(f"{key:04}", f"text {key}", {}) for key in keys], [ONE] * len(keys))


def files(collection: Collection) -> int:
    return len(collection.latest().dataset.get_fragments())


def test_files_stay_few_and_nothing_old_stays(store: Store, writer: WriterLock, tending: Maintenance) -> None:
    collection = store.create("c", SPEC)
    for first in range(0, 600, 6):
        with writer:
            put(collection.latest(), *range(first, first + 6))
        tending.wrote("c")
    newest = store.open("c")
    eventually(lambda: files(newest) < 20)
    eventually(lambda: len(list((newest.folder / "_versions").glob("*.manifest"))) == 1)
    eventually(lambda: len(list((newest.folder / "data").iterdir())) == files(newest))
    assert newest.latest().count() == 600
    about = newest.latest().dataset.stats.index_stats("text_idx")
    assert about["num_unindexed_rows"] < 256 and tending.trouble() is None


def test_versions_made_just_before_a_clean_up_go_at_the_next(
    store: Store, writer: WriterLock, tending: Maintenance
) -> None:
    collection = store.create("c", SPEC)
    for pause in (1.6, 0):  # the clean-up after the first write comes 2.2 s later, too early for what the second leaves
        with writer:
            put(collection.latest(), 0)
        tending.wrote("c")
        time.sleep(pause)
    time.sleep(1)
    eventually(lambda: len(list((collection.folder / "_versions").glob("*.manifest"))) == 1)


def test_writes_and_explicit_compactions_beside_it_lose_nothing(
    store: Store, writer: WriterLock, tending: Maintenance
) -> None:
    collection = store.create("c", SPEC)
    rng = random.Random(0)
    expected: dict[str, int] = {}
    stop = threading.Event()

    def compact() -> None:
        while not stop.is_set():
            # The clean-up may take a version just opened: here it waits for a second or two, not for a minute.
            with contextlib.suppress(StoreUnavailableError):
                tending.compact(collection.latest())

    compacting = threading.Thread(target=compact, daemon=True)
    compacting.start()
    for turn in range(120):
        keys = rng.sample(range(400), 8)
        with writer:
            collection.latest().upsert([Document(f"{k:04}", "", {"turn": turn}) for k in keys], [ONE] * 8)
            gone = f"{rng.randrange(400):04}"
            collection.latest().delete([gone])
        expected |= {f"{k:04}": turn for k in keys}
        expected.pop(gone, None)
        tending.wrote("c")
    stop.set()
    compacting.join()
    assert {d.id: d.metadata["turn"] for d in collection.latest().scroll(500)} == expected
    assert tending.trouble() is None


def test_it_goes_on_after_any_failure(store: Store, writer: WriterLock, tending: Maintenance) -> None:
    for name in ("c", "d"):
        store.create(name, SPEC)
    for trouble in OF_LANCE:
        with failing(Collection, "compact_some", trouble):
            for key in range(8):
                with writer:
                    put(store.open("c"), key)
            tending.wrote("c")
            time.sleep(0.3)
    tending.wrote("gone")
    for key in range(40):
        with writer:
            put(store.open("d"), key)
    tending.wrote("d")
    eventually(lambda: files(store.open("c")) < 8 and files(store.open("d")) < 8)
    assert tending.trouble() is None


def test_it_leaves_a_store_alone_that_another_process_writes_to(store: Store, tmp_path: Path) -> None:
    other, own = WriterLock(tmp_path), WriterLock(tmp_path)
    other.acquire()
    collection = store.create("c", SPEC)
    for i in range(20):
        put(collection, i)
    version = collection.version
    tending = Maintenance(store, own, Metrics())
    try:
        time.sleep(0.3)
        assert store.open("c").version == version
        other.release()
        own.acquire()
        tending.wrote("c")
        eventually(lambda: files(collection) < 8)
    finally:
        tending.close()


def test_what_was_doubled_or_left_before_is_repaired_at_start(store: Store, writer: WriterLock) -> None:
    collection = store.create("c", SPEC)
    for turn in range(3):
        collection.append([Document(f"{i}", f"turn {turn}", {}) for i in range(9)], [ONE] * 9)
    writer.acquire()
    tending = Maintenance(store, writer, Metrics())
    try:
        eventually(lambda: store.open("c").count() == 9)
    finally:
        tending.close()
    assert {d.text for d in store.open("c").scroll(20)} == {"turn 2"}
