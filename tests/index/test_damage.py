"""Damaged files, full disks and newer formats: an error that names them, and everything else goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch
from full_disk import no_file_above

from tridex.index import (
    CollectionSpec,
    DamagedCollectionError,
    Document,
    Follower,
    Store,
    StoreFullError,
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


@pytest.mark.parametrize("damage", [cut_in_half, overwrite, lambda path: path.write_bytes(b""), Path.unlink])
@pytest.mark.parametrize("files", ["_versions/*.manifest", "data/*.lance"])
def test_a_damaged_collection_is_named_and_the_others_are_read(
    tmp_path: Path, damage: Callable[[Path], None], files: str
) -> None:
    store = Store(tmp_path)
    for name in ("sound", "damaged"):
        store.create(name, SPEC)
        put(store, name, "a", "b")
    folder = store.locate("damaged").folder
    for path in folder.glob(files):
        damage(path)
    with pytest.raises(DamagedCollectionError, match=rf"'damaged'.*{folder}"):
        Follower(store, "damaged", CPU)
    with pytest.raises(DamagedCollectionError, match="'damaged'"):
        store.open("damaged").get(["a"])
    with pytest.raises(DamagedCollectionError, match="'damaged'"):
        put(store, "damaged", "a")
    assert store.names() == ["damaged", "sound"]
    assert put(store, "sound", "c") and store.open("sound").count() == 3
    assert Follower(store, "sound", CPU).view.count() == 3
    store.drop("damaged")
    assert store.names() == ["sound"] and not folder.exists()


def test_a_damaged_name_costs_no_collection(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("damaged", "other", "sound"):
        store.create(name, SPEC)
        put(store, name, "a")
    file = tmp_path / "names" / "damaged"
    sound = file.read_bytes()
    file.write_bytes(b"{")
    with pytest.raises(DamagedCollectionError, match=str(file)):
        store.open("damaged")
    assert store.open("sound").count() == 1 and store.names() == ["damaged", "other", "sound"]
    store.drop("other")
    file.write_bytes(sound)
    assert store.open("damaged").count() == 1


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff\x00", b'{"alias_of": 7}'])
def test_a_damaged_alias_is_set_or_dropped(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    put(store, store.create("c", SPEC).name, "a")
    file = tmp_path / "names" / "live"
    store.set_alias("live", "c")
    file.write_bytes(content)
    with pytest.raises(DamagedCollectionError, match=f"{file}.*may be set or dropped"):
        store.open("live")
    store.set_alias("live", "c")
    assert store.aliases() == {"live": "c"} and store.open("live").count() == 1
    file.write_bytes(content)
    store.drop_alias("live")
    assert store.aliases() == {} and store.names() == ["c"] and store.open("c").count() == 1


def test_a_damaged_collection_is_not_taken_for_an_alias(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("c", "c-1"):
        put(store, store.create(name, SPEC).name, "a")
    file = tmp_path / "names" / "c"
    whole = file.read_text()
    file.write_bytes(b"{")
    for change in (lambda: store.drop_alias("c"), lambda: store.set_alias("c", "c-1")):
        with pytest.raises(DamagedCollectionError, match=r"seems to be that of a collection in .*/c-\w{8}\.lance") as e:
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
    lance.write_dataset(schema.empty_table(), str(store.locate("newer").folder), mode="overwrite")
    with pytest.raises(TokenIndexError, match="'newer' has store format 1000 of a newer Tridex"):
        store.open("newer")
    (tmp_path / "names" / "later").write_text('{"folder": "x", "kept_for": "1 day"}')
    with pytest.raises(DamagedCollectionError, match=r"names/later.*newer Tridex"):
        store.locate("later")


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
    view = Follower(store, "c", CPU).view
    (ranking,) = view.search(torch.ones(1, 1, 8), torch.ones(1, 1, dtype=torch.bool), 5)
    shutil.rmtree(store.locate("c").folder)
    assert ranking.ids == ["a"]
    with pytest.raises(TokenIndexError, match="'c' was dropped just now"):
        view.collection.payload(ranking.addresses)
