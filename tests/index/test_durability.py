"""What is acknowledged survives a loss of power at any moment; the next writer removes what the power left torn."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from faults import failing
from power_loss import Disk

from tridex.common.fields import FieldType
from tridex.index import (
    BackupError,
    CollectionSpec,
    CorruptCollectionError,
    Document,
    Store,
    StoreUnavailableError,
    WriterLock,
    back_up,
    check_backups,
    check_store,
    restore,
)
from tridex.index.storage import collection_folders, durability, registry
from tridex.kernels import Codec, train_codebook

DIM = 16
SPEC = CollectionSpec(DIM, Codec.FLOAT32, fingerprint="f" * 64)
TOKENS = np.ones((2, DIM), np.float32)


def put(store: Store, *keys: str, revision: int = 0) -> None:
    documents = [Document(key, f"text {revision}", {"revision": revision}) for key in keys]
    store.open("c").upsert(documents, [TOKENS] * len(keys))


def held(store: Store) -> dict[str, list[Document]]:
    """All that a store holds, by collection and alias."""
    return {name: store.open(name).scroll(1000) for name in [*store.names(), *store.aliases()]}


def build(store: Store) -> None:
    with store.begin_build("built", SPEC, "a" * 64) as build:
        build.append([Document("b1", "a text", {})], [TOKENS])
        build.append([Document("b2", "a text", {})], [TOKENS])
        store.finish_build(build)


def coded(store: Store) -> None:
    tokens = np.random.default_rng(0).standard_normal((99, DIM)).astype(np.float32)
    codebook = train_codebook(tokens, Codec.RESIDUAL4, 4)
    store.create("coded", CollectionSpec(DIM, Codec.RESIDUAL4, "f" * 64), codebook)
    store.open("coded").upsert([Document("d", "a text", {})], [TOKENS])


def left_unsynced(store: Store) -> None:
    """Another process committed versions and was killed before their sync; this one removes the older ones."""
    store.open("c").dataset.delete("id = 'd9'")
    store.open("c").dataset.delete("id = 'd8'")
    durability._synced.cache_clear()
    store.open("c").clean_up(timedelta(0))


def where_revision_is(revision: int) -> dict[str, object]:
    return {"field": "revision", "operator": "==", "value": revision}


OPERATIONS: list[Callable[[Store], object]] = [
    lambda store: store.create("c", SPEC),
    lambda store: put(store, *(f"d{i}" for i in range(300))),
    lambda store: put(store, "d1", "new", revision=1),
    lambda store: store.open("c").delete(["d2", "d3"]),
    lambda store: store.open("c").index_new_texts(),
    lambda store: store.open("c").change_fields({"revision": FieldType.INT}),
    lambda store: store.open("c").update_metadata({"d4": {"revision": 7}}),
    lambda store: store.open("c").update_metadata_matching(where_revision_is(7), {"revision": 8}),
    lambda store: store.open("c").delete_matching(where_revision_is(8)),
    lambda store: store.open("c").compact(),
    lambda store: store.open("c").clean_up(timedelta(0)),
    left_unsynced,
    build,
    coded,
    lambda store: store.set_alias("live", "c"),
    lambda store: store.set_alias("live", "built"),
    lambda store: store.drop_alias("live"),
    lambda store: store.open("c").clear(),
    lambda store: store.drop("c"),
]


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    durability._synced.cache_clear()
    yield


def test_the_power_may_go_at_any_moment(tmp_path: Path) -> None:
    store = Store(tmp_path / "disk" / "store")
    store.folder.parent.mkdir()
    before: dict[str, list[Document]] = {}
    found: list[dict[str, list[Document]]] = []

    def power_goes(disk: Disk) -> None:
        after = Store(disk.after_power_loss(tmp_path / "after") / "store")
        lock = WriterLock(after.folder)
        lock.acquire()
        found.append(held(after))
        lock.release()

    with Disk(store.folder.parent, power_goes).recorded() as disk:
        for operation in OPERATIONS:
            found.clear()
            operation(store)
            now = held(store)
            power_goes(disk)
            assert found[-1] == now
            # Of what was under way, all or nothing; `left_unsynced` and a build do two things.
            assert all(one in (before, now) or operation in (left_unsynced, coded, build) for one in found)
            before = now
    assert disk.syncs > 5 * len(OPERATIONS)


def test_what_could_not_be_synced_is_not_acknowledged_and_the_next_write_syncs_it_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "disk" / "store")
    store.folder.parent.mkdir()
    with Disk(store.folder.parent).recorded() as disk:
        store.create("c", SPEC)
        put(store, "d1")
        for trouble in (errno.EIO, errno.ESTALE, errno.ENOSPC):
            with (
                failing(os, "fsync", lambda code=trouble: OSError(code, os.strerror(code))),  # type: ignore[misc]
                pytest.raises(StoreUnavailableError, match="what was written is there and could not be synced"),
            ):
                put(store, "d2")
        put(store, "d3")
        after = Store(disk.after_power_loss(tmp_path / "after") / "store")
    assert held(after) == held(store)


def test_names_that_could_not_be_synced_are_told_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.create("c", SPEC)

    def not_names(paths: Iterable[Path]) -> None:
        if tmp_path / "names" in (found := [*paths]):
            raise durability.NotSyncedError(errno.EIO, os.strerror(errno.EIO))
        assert found

    monkeypatch.setattr(registry, "sync_all", not_names)
    for change in (lambda: store.set_alias("live", "c"), lambda: store.drop_alias("live")):
        with pytest.raises(StoreUnavailableError, match=r"the names in .* are changed and could not be synced"):
            change()
    assert store.aliases() == {}


@pytest.mark.parametrize("what", ["sync_newest", "sync_all"])
def test_a_collection_that_could_not_be_synced_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    store = Store(tmp_path)

    def fails(_: object) -> None:
        raise durability.NotSyncedError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailableError):
        patch.setattr(collection_folders, what, fails)
        store.create("c", SPEC)
    assert store.names() == [] and not any((tmp_path / "collections").iterdir())
    assert store.create("c", SPEC).count() == 0


def test_of_a_folder_that_took_anothers_place_nothing_is_known(tmp_path: Path) -> None:
    store = Store(tmp_path / "disk" / "store")
    store.folder.parent.mkdir()
    with Disk(store.folder.parent).recorded() as disk:
        folder = store.create("c", SPEC).folder
        put(store, "d1")
        shutil.copytree(folder, tmp_path / "copy")
        put(store, "d2")
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
        before = disk.syncs
        put(store, "d3")
        assert disk.syncs > before + 5
        assert {document.id for document in store.open("c").scroll(10)} == {"d1", "d3"}


def test_who_waits_for_a_sync_shares_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    folder = store.create("c", SPEC).folder
    store.open("c").dataset.delete("true")
    begun, go_on = threading.Event(), threading.Event()
    synced: list[Path] = []

    def slow(path: Path) -> None:
        synced.append(path)
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(durability, "_sync", slow)
    waiting = [threading.Thread(target=durability.sync_newest, args=(folder,)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert begun.wait(60)
    go_on.set()
    for thread in waiting:
        thread.join()
    assert len(synced) == len({*synced}) > 2


def test_folders_that_cannot_be_synced_stop_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_on_smb(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    store = Store(tmp_path)
    monkeypatch.setattr(os, "fsync", as_on_smb)
    store.create("c", SPEC)
    put(store, "d1")
    assert store.open("c").count() == 1


@pytest.mark.parametrize("hint", [b"", None])
def test_a_version_that_the_power_left_empty_is_removed_by_the_next_writer(tmp_path: Path, hint: bytes | None) -> None:
    store = Store(tmp_path)
    store.create("c", SPEC)
    put(store, "d1")
    before = held(store)
    put(store, "d1", "d2", revision=1)
    versions = store.open("c").folder / "_versions"
    newest = min(versions.glob("*.manifest"))  # Lance counts down
    newest.write_bytes(b"")
    if hint is not None:
        (versions / "latest_version_hint.json").write_bytes(hint)
    with pytest.raises(CorruptCollectionError):
        store.open("c").get(["d1"])
    lock = WriterLock(tmp_path)
    lock.acquire()
    assert not newest.exists() and held(store) == before
    put(store, "d3")
    assert store.open("c").count() == 2 and check_store(store).corrupt == []


def test_a_build_goes_on_behind_what_the_power_left_empty(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.begin_build("built", SPEC, "a" * 64) as build:
        for key in ("b1", "b2"):
            build.append([Document(key, "a text", {})], [TOKENS])
        folder = build.collection.folder
    min(folder.glob("_versions/*.manifest")).write_bytes(b"")
    resumed = store.resume_build("built")
    assert resumed is not None
    with resumed:
        assert [document.id for document in resumed.collection.scroll(10)] == ["b1"]
        resumed.append([Document("b2", "a text", {})], [TOKENS])
        store.finish_build(resumed)
    assert store.open("built").count() == 2


def test_where_no_version_is_whole_nothing_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("c", SPEC)
    manifests = [*store.open("c").folder.glob("_versions/*.manifest")]
    for path in manifests:
        path.write_bytes(b"")
    WriterLock(tmp_path).acquire()
    assert all(path.exists() for path in manifests)
    with pytest.raises(CorruptCollectionError):
        store.open("c")


def test_backups_and_restored_stores_survive_a_loss_of_power(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.create("c", SPEC)
    put(store, "d1")
    store.set_alias("live", "c")
    root = tmp_path / "disk"
    root.mkdir()

    def power_goes(disk: Disk) -> None:
        after = disk.after_power_loss(tmp_path / "after")
        try:
            assert check_backups(after / "backups").corrupt == []
        except BackupError:
            assert not made
        if (after / "restored").exists():
            assert held(Store(after / "restored")) == held(store)

    with Disk(root, power_goes).recorded() as disk:
        made: list[str] = []
        for revision in range(3):
            put(store, f"e{revision}", revision=revision)
            made.append(back_up(store, root / "backups", keep=2).name)
            power_goes(disk)
        restore(root / "backups", root / "restored")
        after = disk.after_power_loss(tmp_path / "after")
    assert held(Store(after / "restored")) == held(store)
    restore(after / "backups", tmp_path / "again", made[-1])
    assert held(Store(tmp_path / "again")) == held(store)
