"""Views follow the store whatever fails meanwhile, let go of nothing that was not dropped, and cost little."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from eventually import eventually
from faults import OF_LANCE, OF_THE_SYSTEM, Trouble, failing
from removed_files import create_indexed, search_and_rewrite

from tridex.index import Collection, CollectionSpec, Document, MemoryBudget, Store
from tridex.index.storage import collection
from tridex.index.storage.lance_session import keeps_removed_files
from tridex.kernels import Codec, Operator
from tridex.serving.backend.service import RequestError
from tridex.serving.collections import compiled_codecs, loaded_collections
from tridex.serving.collections.compiled_codecs import CompiledCodecs
from tridex.serving.collections.loaded_collections import LoadedCollections, NotYetError
from tridex.serving.metrics.registry import Metrics

SPEC = CollectionSpec(4, Codec.FLOAT32, "f" * 64)


def put(store: Store, name: str, *keys: str) -> int:
    collection = store.open(name) if name in store.names() else store.create(name, SPEC)
    return collection.upsert([Document(key, key, {}) for key in keys], [np.ones((1, 4), np.float32)] * len(keys))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "followed")


@pytest.fixture
def followed(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadedCollections]:
    """A store that is followed, with one collection, "c" of document "a"."""
    monkeypatch.setattr(loaded_collections, "_RETRY_S", 0.2)
    monkeypatch.setattr(loaded_collections, "_PASS_S", 0.2)
    monkeypatch.setattr(loaded_collections, "_RETURN_S", 0.2)
    put(store, "c", "a")
    followed = LoadedCollections(store, torch.device("cpu"), MemoryBudget(10**8), Metrics())
    yield followed
    followed.close()


def test_a_collection_can_be_searched_once_what_it_needs_is_compiled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[list[CollectionSpec]] = []
    searched_before: list[int | None] = []

    def compile_(_: CompiledCodecs, specs: Iterable[CollectionSpec]) -> None:
        compiled.append(list(specs))
        if len(compiled) > 1:
            searched_before.append(shown(followed, "later"))

    explained_after: list[int] = []
    monkeypatch.setattr(CompiledCodecs, "compile", compile_)
    monkeypatch.setattr(CompiledCodecs, "compile_explanations", lambda _: explained_after.append(len(compiled)))
    put(store, "c", "a")
    put(store, "d", "a")
    followed = LoadedCollections(store, torch.device("cpu"), MemoryBudget(10**8), Metrics())
    try:
        assert compiled == [[SPEC, SPEC]], "together"
        put(store, "later", "a")
        eventually(lambda: shown(followed, "later") == 1)
        assert compiled[1:] == [[SPEC]] and searched_before == [None]
        eventually(lambda: explained_after[-1:] == [2])
    finally:
        followed.close()


def test_each_codec_is_compiled_once_and_what_explains_hits_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, set[Codec], tuple[Operator, ...]]] = []

    def warm_up(_: torch.device, dim: int, codecs: Iterable[Codec], operators: tuple[Operator, ...]) -> None:
        calls.append((dim, set(codecs), operators))

    monkeypatch.setattr(compiled_codecs.kernels, "warm_up", warm_up)
    on_gpu = CompiledCodecs(torch.device("cuda", 0))
    on_gpu.compile([SPEC, replace(SPEC, codec=Codec.INT8), SPEC])
    on_gpu.compile([SPEC, replace(SPEC, dim=8)])
    searches = ("search", "rescore")
    assert calls == [(4, {Codec.FLOAT32, Codec.INT8}, searches), (8, {Codec.FLOAT32}, searches)]
    calls.clear()
    on_gpu.compile_explanations()
    on_gpu.compile_explanations()
    assert len(calls) == 2
    assert (4, {Codec.FLOAT32, Codec.INT8}, ("explain",)) in calls and (8, {Codec.FLOAT32}, ("explain",)) in calls


def shown(followed: LoadedCollections, name: str) -> int | None:
    """Documents of the collection's snapshot, None where there is none."""
    try:
        return followed.snapshot(followed.resolve(name)).count()
    except (NotYetError, RequestError):
        return None


FAULTS = [
    *(((Path, name), trouble) for name in ("iterdir", "read_bytes", "stat") for trouble in OF_THE_SYSTEM),
    *(((Collection, name), trouble) for name in ("latest_version", "latest", "rows") for trouble in OF_LANCE),
]


@pytest.mark.parametrize(("call", "trouble"), FAULTS)
def test_following_survives_whatever_fails(
    store: Store, followed: LoadedCollections, call: tuple[type, str], trouble: Trouble
) -> None:
    snapshot = followed.snapshot(followed.resolve("c"))
    collection = snapshot.collection
    with failing(*call, trouble):
        time.sleep(0.3)
        assert followed._followers[collection.folder].snapshot.count() == 1, "nothing looks dropped"
    put(store, "c", "b")
    put(store, "new", "a")
    eventually(lambda: shown(followed, "c") == 2 and shown(followed, "new") == 1)
    assert followed.trouble() is None


def test_a_folder_among_the_names_hides_nothing(store: Store, followed: LoadedCollections) -> None:
    (folder := store.folder / "names" / "folder").mkdir()
    put(store, "c", "b")
    put(store, "new", "a")
    eventually(lambda: shown(followed, "c") == 2 and shown(followed, "new") == 1)
    folder.rmdir()
    put(store, "c", "c")
    eventually(lambda: shown(followed, "c") == 3)


def test_what_cannot_be_looked_up_is_followed_where_it_was(store: Store, followed: LoadedCollections) -> None:
    collection = store.open("c")
    name = store.folder / "names" / "c"
    whole = name.read_bytes()
    name.write_bytes(b"{")
    collection.upsert([Document("b", "b", {})], [np.ones((1, 4), np.float32)])
    eventually(lambda: followed._followers[collection.folder].snapshot.count() == 2)
    name.write_bytes(whole)
    (store.folder / "names").rename(store.folder / "unmounted")
    collection.upsert([Document("d", "d", {})], [np.ones((1, 4), np.float32)])
    eventually(lambda: followed._followers[collection.folder].snapshot.count() == 3)
    (store.folder / "unmounted").rename(store.folder / "names")
    assert shown(followed, "c") == 3


def test_a_follower_that_is_stuck_is_told(
    store: Store, followed: LoadedCollections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed._following, "_stuck_after_s", 0.1)
    assert followed.trouble() is None
    with failing(Path, "stat", OF_THE_SYSTEM[0]):
        eventually(followed.trouble)
        assert "the thread that follows the store has been stuck for" in str(followed.trouble())
    eventually(lambda: followed.trouble() is None)
    put(store, "c", "b")
    eventually(lambda: shown(followed, "c") == 2)


def test_searches_that_stay_behind_the_store_are_told(
    store: Store, followed: LoadedCollections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_collections, "_STALE_S", 0.3)
    with failing(collection, "open_dataset", OF_LANCE[0]):
        put(store, "c", "b")
        eventually(followed.trouble)
        assert "searches have been behind the store for" in str(followed.trouble())
        assert shown(followed, "c") == 1
    eventually(lambda: shown(followed, "c") == 2)
    assert followed.trouble() is None


def test_dropping_what_is_followed_writes_no_traceback(
    store: Store, followed: LoadedCollections, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            put(store, "c", "b")
            time.sleep(0.02)
            store.drop("c")
            put(store, "c", "a")
        store.drop("c")
        eventually(lambda: not followed._followers)
    assert caplog.text == ""


def test_many_collections_cost_little_while_nothing_happens(store: Store) -> None:
    """By counting what the store is asked, as times depend on the machine."""
    for i in range(20):
        store.create(f"c{i}", SPEC)
    followed = LoadedCollections(store, torch.device("cpu"), MemoryBudget(10**9), Metrics())
    asked: list[str] = []
    latest_version = Collection.latest_version

    def counted(self: Collection) -> int:
        asked.append(self.name)
        return latest_version(self)

    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Collection, "latest_version", counted)
            eventually(lambda: asked)
            time.sleep(loaded_collections._PASS_S)
            assert len(asked) <= 3 * 20, "once in two seconds, not once in 50 ms"
        put(store, "c7", "a")
        eventually(lambda: shown(followed, "c7") == 1)
    finally:
        followed.close()


def test_removed_files_are_closed_although_a_collection_that_nobody_writes_to_stays_open(
    store: Store, followed: LoadedCollections
) -> None:
    create_indexed(store, "written")
    eventually(lambda: shown(followed, "written") is not None)
    search_and_rewrite(store, "written")
    eventually(lambda: not keeps_removed_files(store.folder))
    assert shown(followed, "c") == 1 and shown(followed, "written") == 300
