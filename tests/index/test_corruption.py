"""Corrupt files, full disks and newer formats: an error that names them, and everything else goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch
from faults import OF_LANCE, OF_THE_SYSTEM, Trouble, failing
from full_disk import no_file_above

from tridex.index import (
    CollectionNotFoundError,
    CollectionSpec,
    CorruptCollectionError,
    Document,
    Follower,
    ReadOnlyStoreError,
    Store,
    StoreFullError,
    StoreUnavailableError,
    TokenIndexError,
)
from tridex.kernels import Codec

SPEC = CollectionSpec(8, Codec.FLOAT32, fingerprint="f" * 64)
CPU = torch.device("cpu")


def put(store: Store, name: str, *keys: str, characters: int = 10) -> int:
    documents = [Document(key, "x" * characters, {}) for key in keys]
    return store.open(name).upsert(documents, [np.ones((2, 8), np.float32)] * len(keys))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


@pytest.mark.parametrize("corrupt", [cut_in_half, overwrite, lambda path: path.write_bytes(b""), Path.unlink])
@pytest.mark.parametrize("files", ["_versions/*.manifest", "data/*.lance"])
def test_a_corrupt_collection_is_named_and_the_others_are_read(
    tmp_path: Path, corrupt: Callable[[Path], None], files: str
) -> None:
    store = Store(tmp_path)
    for name in ("sound", "corrupt"):
        store.create(name, SPEC)
        put(store, name, "a", "b")
    folder = store.resolve("corrupt").folder
    for path in folder.glob(files):
        corrupt(path)
    with pytest.raises(CorruptCollectionError, match=rf"'corrupt'.*{folder}"):
        Follower(store, "corrupt", CPU)
    with pytest.raises(CorruptCollectionError, match="'corrupt'"):
        store.open("corrupt").get(["a"])
    with pytest.raises(CorruptCollectionError, match="'corrupt'"):
        put(store, "corrupt", "a")
    assert store.names() == ["corrupt", "sound"]
    assert put(store, "sound", "c") and store.open("sound").count() == 3
    assert Follower(store, "sound", CPU).snapshot.count() == 3
    store.drop("corrupt")
    assert store.names() == ["sound"] and not folder.exists()


def test_a_corrupt_entry_costs_no_collection(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("corrupt", "other", "sound"):
        store.create(name, SPEC)
        put(store, name, "a")
    file = tmp_path / "names" / "corrupt"
    sound = file.read_bytes()
    file.write_bytes(b"{")
    with pytest.raises(CorruptCollectionError, match=str(file)):
        store.open("corrupt")
    assert store.open("sound").count() == 1 and store.names() == ["corrupt", "other", "sound"]
    store.drop("other")
    file.write_bytes(sound)
    assert store.open("corrupt").count() == 1


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\x00", b'{"alias_of": 7}'])
def test_a_corrupt_alias_is_set_or_dropped(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    put(store, store.create("c", SPEC).name, "a")
    file = tmp_path / "names" / "live"
    store.set_alias("live", "c")
    file.write_bytes(content)
    with pytest.raises(CorruptCollectionError, match=f"{file}.*may be set or dropped"):
        store.open("live")
    store.set_alias("live", "c")
    assert store.aliases() == {"live": "c"} and store.open("live").count() == 1
    file.write_bytes(content)
    store.drop_alias("live")
    assert store.aliases() == {} and store.names() == ["c"] and store.open("c").count() == 1


def test_a_corrupt_entry_of_a_collection_is_not_taken_for_an_alias(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("c", "c-1"):
        put(store, store.create(name, SPEC).name, "a")
    file = tmp_path / "names" / "c"
    whole = file.read_text()
    file.write_bytes(b"{")
    for change in (lambda: store.drop_alias("c"), lambda: store.set_alias("c", "c-1")):
        with pytest.raises(CorruptCollectionError, match=r"seems to be that of a collection in .*/c-\w{8}\.lance") as e:
            change()
    assert str(e.value).endswith(f"make the file say {whole}")
    # What the message says brings it back.
    file.write_text(whole)
    assert store.open("c").count() == 1


def test_what_a_newer_version_wrote_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("newer", SPEC)
    spec = {"format": 1000, "what": "nobody knows"}
    schema = pa.schema([("id", pa.string())], metadata={b"tridex": json.dumps(spec).encode()})
    lance.write_dataset(schema.empty_table(), str(store.resolve("newer").folder), mode="overwrite")
    with pytest.raises(TokenIndexError, match="'newer' has store format 1000 of a newer Tridex"):
        store.open("newer")
    (tmp_path / "names" / "later").write_text('{"folder": "x", "kept_for": "1 day"}')
    with pytest.raises(CorruptCollectionError, match=r"names/later.*newer Tridex"):
        store.resolve("later")


def test_a_full_disk_refuses_the_write_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("c", SPEC)
    version = put(store, "c", "kept")
    follower = Follower(store, "c", CPU)
    with no_file_above(100_000):
        with pytest.raises(StoreFullError, match=r"collection 'c': no room.*nothing of it is stored"):
            put(store, "c", "large", "kept", characters=200_000)
        assert put(store, "c", "small") > version
    assert store.open("c").get(["kept", "large", "small"])[1] is None
    assert {d.id: len(d.text) for d in store.open("c").scroll(9)} == {"kept": 10, "small": 10}
    assert follower.refresh().count() == 2
    assert put(store, "c", "large", characters=200_000) and store.open("c").count() == 3


def test_a_search_during_a_drop_ends(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("c", SPEC)
    put(store, "c", "a")
    snapshot = Follower(store, "c", CPU).snapshot
    (ranking,) = snapshot.search(torch.ones(1, 1, 8), torch.ones(1, 1, dtype=torch.bool), 5)
    shutil.rmtree(store.resolve("c").folder)
    assert ranking.ids == ["a"]
    with pytest.raises(TokenIndexError, match="'c' was dropped just now"):
        snapshot.collection.payload(ranking.addresses)


@pytest.mark.parametrize("trouble", OF_THE_SYSTEM)
def test_a_name_that_cannot_be_read_just_now_is_no_corrupt_one(tmp_path: Path, trouble: Trouble) -> None:
    store = Store(tmp_path)
    for name in ("c", "d"):
        put(store, store.create(name, SPEC).name, "a")
    store.set_alias("live", "c")
    with failing(Path, "read_bytes", trouble):
        assert store.folders() == {"c": None, "d": None, "live": None}
        for ask in (lambda: store.open("c"), lambda: store.set_alias("c", "d"), lambda: store.drop_alias("live")):
            with pytest.raises(StoreUnavailableError, match=r"could not be read just now.*: try again"):
                ask()
    with failing(Path, "iterdir", trouble), pytest.raises(StoreUnavailableError, match=r"the names in .*just now"):
        store.names()
    assert store.names() == ["c", "d"] and store.aliases() == {"live": "c"}


def test_a_folder_among_the_names_costs_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, store.create("c", SPEC).name, "a")
    (tmp_path / "names" / "folder").mkdir()
    assert store.names() == ["c", "folder"] and store.open("c").count() == 1
    with pytest.raises(CorruptCollectionError, match=r"names/folder.*Is a directory"):
        store.open("folder")


def test_names_that_are_gone_are_no_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.names() == []
    store.create("c", SPEC)
    assert store.names() == ["c"]
    (tmp_path / "store").rename(tmp_path / "unmounted")
    for ask in (store.names, store.aliases, lambda: store.open("c")):
        with pytest.raises(StoreUnavailableError, match="store/names, which holds the store's names, is gone"):
            ask()
    (tmp_path / "unmounted").rename(tmp_path / "store")
    assert store.names() == ["c"]


def test_the_nearest_names_are_offered_and_no_list_of_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("customers-2024", SPEC)
    (names := tmp_path / "names").mkdir(exist_ok=True)
    whole = (names / "customers-2024").read_text()
    for i in range(2000):
        (names / f"{i:03}-{'x' * 50}").write_text(whole)
    (names / "customer").write_text('{"folder": "x", "built_from": "y"}')
    (names / "customers").write_text('{"alias_of": "customers-2024"}')
    with pytest.raises(CollectionNotFoundError, match=r"'customer-2024' .*names like it: customers-2024, customers$"):
        store.open("customer-2024")
    with pytest.raises(CollectionNotFoundError, match=r"alias 'custom' does not exist; names like it: customers$"):
        store.drop_alias("custom")
    with pytest.raises(CollectionNotFoundError, match=r"'zzz' does not exist; names like it: none$") as missing:
        store.open("zzz")
    assert missing.value.told({"customers", "000"}.__contains__).endswith("does not exist; there are: customers")
    assert missing.value.told(lambda _: False).endswith("does not exist; there are: none")


@pytest.mark.parametrize("trouble", OF_LANCE)
def test_whole_files_are_never_advised_to_be_dropped(tmp_path: Path, trouble: Trouble) -> None:
    store = Store(tmp_path)
    put(store, store.create("c", SPEC).name, "a")
    follower = Follower(store, "c", CPU)
    put(store, "c", "b")
    with failing(lance.LanceDataset, "scanner", trouble):
        for ask in (follower.refresh, store.open("c").size, lambda: Follower(store, "c", CPU)):
            with pytest.raises(
                StoreUnavailableError, match="not known to be corrupt, nothing of it is lost: try again"
            ):
                ask()
    assert follower.refresh().count() == 2


def test_what_was_cleaned_up_or_is_an_index_is_no_corruption(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for keys in ("ab", "cd", "ef"):
        put(store, "c" if store.names() else store.create("c", SPEC).name, *keys, characters=100_000)
    snapshot = Follower(store, "c", CPU).snapshot
    collection = store.open("c")
    collection.compact()
    collection.clean_up(timedelta(0))
    (ranking,) = snapshot.search(torch.ones(1, 1, 8), torch.ones(1, 1, dtype=torch.bool), 5)
    with pytest.raises(StoreUnavailableError, match="nothing of it is lost"):
        snapshot.collection.payload(ranking.addresses)
    shutil.rmtree(collection.folder / "_indices")
    with pytest.raises(StoreUnavailableError, match="nothing of it is lost"):
        store.open("c").search_texts("x", 3)


def test_a_history_that_cannot_be_read_costs_no_loading(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("c", SPEC)
    for first in range(0, 300, 30):
        put(store, "c", *map(str, range(first, first + 30)))
    store.open("c").index_new_texts()
    follower = Follower(store, "c", CPU)
    before = [segment.packed.codes for segment in follower.snapshot.segments]
    put(store, "c", "new", "1")
    collection = store.open("c")
    collection.delete(["2"])
    collection.upsert([Document("3", "changed", {})], [np.zeros((1, 8), np.float32)])
    collection.compact()
    with failing(lance.LanceDataset, "read_transaction", OF_LANCE[-1]):
        snapshot = follower.refresh()
    assert snapshot.version == collection.version and snapshot.count() == collection.count() == 300
    kept, loaded = snapshot.segments[: len(before)], snapshot.segments[len(before) :]
    assert all(segment.packed.codes is codes for segment, codes in zip(kept, before, strict=True))
    assert sorted(key for segment in loaded for key in segment.ids.to_pylist()) == ["3", "new"]
    (ranking,) = snapshot.search(torch.ones(1, 1, 8), torch.ones(1, 1, dtype=torch.bool), 500)
    texts, _ = snapshot.collection.payload(ranking.addresses)
    assert dict(zip(ranking.ids, texts, strict=True)) == {d.id: d.text for d in collection.scroll(400)}


def test_a_backup_that_is_put_back_is_followed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.create("c", SPEC)
    put(store, "c", *"abcd")
    shutil.copytree(folder := store.resolve("c").folder, tmp_path / "backup")
    follower = Follower(store, "c", CPU)
    store.open("c").delete(["a", "b"])
    put(store, "c", "d", "e", characters=20)
    assert follower.refresh().count() == 3
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    snapshot = follower.refresh()
    assert {d.id for d in store.open("c").scroll(9)} == {*"abcd"} and snapshot.count() == 4
    (ranking,) = snapshot.search(torch.ones(1, 1, 8), torch.ones(1, 1, dtype=torch.bool), 9)
    assert ranking.ids == [*"abcd"] and snapshot.collection.payload(ranking.addresses)[0] == ["x" * 10] * 4
    put(store, "c", "f")
    assert follower.refresh().count() == 5


def test_what_may_only_be_read_says_why_it_is_not_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, store.create("c", SPEC).name, "a")
    collection = store.open("c")

    def forbidden() -> OSError:
        return OSError("LanceError(IO): Generic LocalFileSystem error: Read-only file system (os error 30)")

    refused = pytest.raises(ReadOnlyStoreError, match=r"'c' cannot be written to .*Read-only file system.*may read")
    with failing(lance.LanceDataset, "delete", forbidden), refused:
        collection.delete(["a"])
    with failing(Path, "open", lambda: OSError(30, "Read-only file system")):
        for write in (lambda: store.create("d", SPEC), lambda: store.drop("c"), lambda: store.set_alias("live", "c")):
            with pytest.raises(ReadOnlyStoreError, match=r"the names in .*Read-only file system.*may read"):
                write()
    assert store.names() == ["c"] and collection.count() == 1


def test_a_collection_that_is_being_removed_is_dropped_not_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    put(store, store.create("c", SPEC).name, "a")
    follower = Follower(store, "c", CPU)
    put(store, "c", "b")
    removed: list[Path] = []
    monkeypatch.setattr(shutil, "rmtree", lambda folder, **_: removed.append(folder))
    store.drop("c")
    assert len(removed) == 1 and removed[0].exists(), "half removed, as it were"
    with pytest.raises(CollectionNotFoundError, match="dropped just now"):
        follower.refresh()
    monkeypatch.undo()
    store.create("c", SPEC)
    store.drop("c")
    assert not any((tmp_path / "collections").iterdir())
