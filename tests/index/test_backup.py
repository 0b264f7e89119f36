"""Backups, made while others write, restore to what the store held; whatever bit changes in a store is found."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import no_file_above
from hypothesis import given, settings
from hypothesis import strategies as st

from tridex.index import (
    BackupError,
    CollectionSpec,
    CorruptCollectionError,
    Document,
    Follower,
    Store,
    StoreFullError,
    back_up,
    check_backups,
    check_store,
    restore,
)
from tridex.index.storage import backup as backup_module
from tridex.index.storage import root
from tridex.index.storage.registry import Registry
from tridex.kernels import Codec, train_codebook

DIM = 16
SPEC = CollectionSpec(DIM, Codec.FLOAT32, fingerprint="f" * 64)
CPU = torch.device("cpu")
DATA = Path(__file__).parents[1] / "data"
EARLIER = {4: ("store-0.1", 10), 3: ("before-0.1/format-3", 2), 2: ("before-0.1/format-2", 2)}
"""Of each format a store that an earlier version wrote, and its collections."""


def embeddings_of(key: str, revision: int) -> np.ndarray:
    return np.random.default_rng([revision, *key.encode()]).integers(-3, 4, (3, DIM)).astype(np.float32)


def put(store: Store, name: str, *keys: str, revision: int = 0) -> None:
    documents = [Document(key, f"{key} word{revision}", {"revision": revision}) for key in keys]
    store.open(name).upsert(documents, [embeddings_of(key, revision) for key in keys])


def answers(store: Store, name: str) -> tuple[object, ...]:
    """Everything that a collection holds and finds."""
    collection, snapshot = store.open(name), Follower(store, name, CPU).snapshot
    query = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, (1, 4, collection.spec.dim)).astype(np.float32))
    ranking = snapshot.search(query, torch.ones(query.shape[:2], dtype=torch.bool), 100)[0]
    texts = snapshot.search_texts("word1 word2 river d1", 100)
    return collection.scroll(1000), ranking.ids, ranking.scores.tolist(), texts.ids, texts.scores.tolist()


def make(folder: Path) -> Store:
    store = Store(folder)
    store.create("c", SPEC)
    put(store, "c", "d1", "d2", "d3")
    store.create("other", SPEC)
    put(store, "other", "x")
    store.set_alias("live", "c")
    return store


def operations(store: Store) -> dict[str, Callable[[int], object]]:
    """What may happen to a store while it is backed up, by name: each takes a number that no call before had."""

    def make_anew(revision: int) -> None:
        store.drop("other")
        store.create("other", SPEC)
        put(store, "other", "x", "y", revision=revision)

    def build(revision: int) -> None:
        with store.begin_build(f"built-{revision}", SPEC, "a" * 64) as build:
            build.append([Document("b", "a text", {})], [embeddings_of("b", revision)])
            store.finish_build(build)
        store.set_alias("live", f"built-{revision}")

    return {
        "upsert": lambda revision: put(store, "c", "d1", f"e{revision}", revision=revision),
        "delete": lambda revision: store.open("c").delete([f"e{revision - 1}", "d2"]),
        "compact": lambda _: store.open("c").compact(),
        "clean up": lambda _: store.open("c").clean_up(timedelta(0)),
        "record": lambda _: store.open("c").record_checksums(),
        "make anew": make_anew,
        "build": build,
    }


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_what_is_backed_up_during_writes_is_what_the_store_held(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store = make(Path(folder, "store"))
        do = operations(store)
        held = {name: [answers(store, name)] for name in store.names()}
        copied, revision = backup_module._copied, 0

        def copied_amid_writes(source: Path, target: Path, expected: str | None = None) -> str:
            nonlocal revision
            if revision < 6:
                for name in data.draw(st.lists(st.sampled_from(sorted(do)), max_size=2)):
                    revision += 1
                    do[name](revision)
                    for collection in store.names():
                        held.setdefault(collection, []).append(answers(store, collection))
            return copied(source, target, expected)

        patch.setattr(backup_module, "_copied", copied_amid_writes)
        made = [back_up(store, Path(folder, "backups")) for _ in range(2)]
        patch.setattr(backup_module, "_copied", copied)
        for one in made:
            restored = Store(Path(folder, one.name))
            done = restore(Path(folder, "backups"), restored.folder, one.name)
            assert (done.files, done.bytes) == (one.files, done.copied_bytes)
            assert {"c", "other"} <= {*restored.names()} <= {*store.names()}
            assert all(answers(restored, name) in held[name] for name in restored.names())
            assert answers(restored, "live") in held[restored.aliases()["live"]]
            checked = check_store(restored)
            assert (checked.corrupt, checked.without_sum, checked.collections) == ([], 0, one.collections)
            put(restored, "c", "afterwards")
            assert restored.open("c").get(["afterwards"])[0] is not None
        assert answers(store, "c")[0] == Store(store.folder).open("c").scroll(1000)


def test_only_what_is_new_is_copied_and_the_oldest_backup_goes(tmp_path: Path) -> None:
    store, destination = make(tmp_path / "store"), tmp_path / "backups"
    first = back_up(store, destination, keep=2)
    assert first.copied_bytes == first.bytes > 0
    again = back_up(store, destination, keep=2)
    assert (again.copied_bytes, again.bytes) == (0, first.bytes)
    put(store, "c", "d4")
    held = answers(store, "c")
    assert 0 < back_up(store, destination, keep=2).copied_bytes < first.bytes
    store.open("c").compact()
    store.open("c").clean_up(timedelta(0))
    last = back_up(store, destination, keep=1)
    assert [path.name for path in (destination / "backups").iterdir()] == [last.name]
    files = {str(path.relative_to(destination)) for path in destination.rglob("*") if path.is_file()}
    assert len(files - {".lock"}) == last.files + 1  # and the file of sums
    sums = destination / "backups" / last.name / "SHA256SUMS"
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", sums], cwd=destination, check=True)
    assert restore(destination, tmp_path / "new").collections == 2
    assert answers(Store(tmp_path / "new"), "c")[0] == held[0]


@pytest.mark.parametrize("store_format", EARLIER)
def test_stores_of_earlier_formats_are_backed_up_and_checked(tmp_path: Path, store_format: int) -> None:
    written, collections = EARLIER[store_format]
    store = Store(shutil.copytree(DATA / written / "store", tmp_path / "store"))
    checked = check_store(store)
    assert checked.corrupt == [] and checked.formats == {store_format: collections}
    assert checked.without_sum == checked.files
    back_up(store, tmp_path / "backups")
    restore(tmp_path / "backups", tmp_path / "new")
    restored = Store(tmp_path / "new")
    assert (restored.names(), restored.aliases()) == (store.names(), store.aliases())
    for name in store.names():
        assert answers(restored, name) == answers(store, name)


def test_an_unfinished_build_is_left_out(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    with store.begin_build("half", SPEC, "a" * 64) as build:
        build.append([Document("b", "a text", {})], [embeddings_of("b", 0)])
    assert back_up(store, tmp_path / "backups").collections == 2
    restore(tmp_path / "backups", tmp_path / "new")
    assert Store(tmp_path / "new").resume_build("half") is None


@pytest.mark.parametrize("seed", range(20))
def test_any_changed_bit_is_found(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    store = make(tmp_path / "store")
    codebook = train_codebook(np.concatenate([embeddings_of(str(i), 0) for i in range(99)]), Codec.RESIDUAL4, 4)
    store.create("coded", CollectionSpec(DIM, Codec.RESIDUAL4, "f" * 64), codebook)
    put(store, "coded", "d1")
    store.open("c").delete(["d2"])
    for name in store.names():
        assert not store.open(name).record_checksums()
    files = {str(store.open(name).folder / file): name for name in store.names() for file in store.open(name).files()}
    path = sorted(files)[rng.integers(len(files))]
    content = bytearray(Path(path).read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    Path(path).write_bytes(content)
    found = check_store(Store(store.folder)).corrupt
    assert {corruption.collection for corruption in found} == {files[path]}
    assert path in {corruption.file for corruption in found} or all(path in c.reason for c in found if c.file is None)
    if "/data/" in path:
        assert any(corruption.rows for corruption in found)
    with pytest.raises(Exception, match=files[path]):
        back_up(store, tmp_path / "backups")
    with pytest.raises(BackupError, match="there is no backup"):
        restore(tmp_path / "backups", tmp_path / "new")


def test_rows_that_cannot_be_read_are_named_without_sums(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    (path,) = store.open("c").folder.glob("data/*.lance")
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    (found,) = [c for c in check_store(Store(store.folder)).corrupt if c.file == str(path)]
    assert (found.collection, found.rows) == ("c", "rows 1 to 3") and "cannot be read" in found.reason


def test_names_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    names = store.folder / "names"
    (names / "broken").write_text("{")
    (names / "dangling").write_text('{"alias_of": "nobody"}')
    (names / "gone").write_text('{"folder": "gone-00000000.lance"}')
    found = {corruption.collection: corruption for corruption in check_store(store).corrupt}
    assert found.keys() == {"broken", "dangling", "gone"}
    assert "is corrupt" in found["broken"].reason and "'nobody', which does not exist" in found["dangling"].reason
    assert "folder is missing" in found["gone"].reason
    with pytest.raises(CorruptCollectionError, match="broken"):
        back_up(store, tmp_path / "backups")


def test_a_corrupt_backup_is_found_and_not_restored(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    back_up(store, tmp_path / "backups")
    assert check_backups(tmp_path / "backups").corrupt == []
    path = max((tmp_path / "backups").rglob("*.lance"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert [corruption.file for corruption in check_backups(tmp_path / "backups").corrupt] == [str(path)]
    with pytest.raises(BackupError, match=f"{path} is corrupt"):
        restore(tmp_path / "backups", tmp_path / "new")
    path.unlink()
    with pytest.raises(BackupError, match=f"{path} is missing"):
        restore(tmp_path / "backups", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "store"]
    # The next backup has all of it again.
    back_up(store, tmp_path / "backups")
    assert check_backups(tmp_path / "backups").corrupt == []


def test_a_full_disk_leaves_the_backups_that_were_there(tmp_path: Path) -> None:
    store, destination = make(tmp_path / "store"), tmp_path / "backups"
    with no_file_above(500), pytest.raises(StoreFullError, match=r"the backup in .*backups cannot be written"):
        back_up(store, destination)
    with pytest.raises(BackupError, match="there is no backup"):
        restore(destination, tmp_path / "new")
    made = back_up(store, destination)
    put(store, "c", "d4")
    with no_file_above(500), pytest.raises(StoreFullError):
        back_up(store, destination)
    with no_file_above(500), pytest.raises(StoreFullError, match=r"the store .*new cannot be written"):
        restore(destination, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert restore(destination, tmp_path / "new").name == made.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "new", "store"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    back_up(store, tmp_path / "backups")
    before = answers(store, "c")
    with pytest.raises(BackupError, match=r"store holds something, and a restore writes over nothing"):
        restore(tmp_path / "backups", store.folder)
    assert answers(store, "c") == before
    for destination, message in (
        (store.folder, "in each other"),
        (store.folder / "backups", "in each other"),
        (tmp_path, "in each other"),
        (shutil.copytree(store.folder, tmp_path / "copy"), "holds 'names'; expected a folder for nothing else"),
    ):
        with pytest.raises(BackupError, match=message):
            back_up(store, destination)
    with pytest.raises(BackupError, match=r"no backup 'yesterday'.*expected one of: 20"):
        restore(tmp_path / "backups", tmp_path / "new", "yesterday")
    with pytest.raises(BackupError, match="nowhere is not there"):
        back_up(Store(tmp_path / "nowhere"), tmp_path / "backups")
    with (
        backup_module._locked(tmp_path / "backups"),
        pytest.raises(BackupError, match="another process is making a backup"),
    ):
        back_up(store, tmp_path / "backups")


def test_backups_of_a_store_are_not_replaced_by_those_of_another(tmp_path: Path) -> None:
    store, backups = make(tmp_path / "store"), tmp_path / "backups"
    first = back_up(store, backups, keep=1)
    other = Store(tmp_path / "other")
    (tmp_path / "other" / "collections").mkdir(parents=True)
    for make_other in (lambda: None, lambda: other.create("of-another", SPEC)):
        make_other()
        with pytest.raises(BackupError, match=r"has none of the names in the newest backup, .*expected the same store"):
            back_up(other, backups, keep=1)
    assert restore(backups, tmp_path / "restored").name == first.name
    assert back_up(other, tmp_path / "others").collections == 1


@pytest.mark.parametrize("place", ["new", "collections/x"])
def test_a_store_is_not_restored_among_the_backups(tmp_path: Path, place: str) -> None:
    store, backups = make(tmp_path / "store"), tmp_path / "backups"
    back_up(store, backups)
    with pytest.raises(BackupError, match="which holds backups and nothing else"):
        restore(backups, backups / place)
    assert back_up(store, backups).copied_bytes == 0


def test_what_a_killed_restore_has_left_goes_and_one_under_way_stays(tmp_path: Path) -> None:
    store, backups = make(tmp_path / "store"), tmp_path / "backups"
    back_up(store, backups)
    left, under_way = (tmp_path / f".new.restored-{name}" for name in ("left", "under-way"))
    for folder in (left, under_way):
        (folder / "collections").mkdir(parents=True)
    lock = os.open(under_way, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    restore(backups, tmp_path / "new")
    os.close(lock)
    assert not left.exists() and under_way.exists()


def test_files_of_an_index_that_are_missing_are_named(tmp_path: Path) -> None:
    store = make(tmp_path)
    name = store.names()[0]
    collection = store.open(name)
    collection.index_new_texts()
    store.open(name).record_checksums()
    files = [file for file in store.open(name).files() if file.startswith("_indices/")]
    assert files and not check_store(store).corrupt
    for file in files:
        path = collection.folder / file
        content = path.read_bytes()
        path.unlink()
        assert str(path) in {corruption.file for corruption in check_store(store).corrupt}
        path.write_bytes(content)


def test_a_corrupt_name_does_not_end_the_check(tmp_path: Path) -> None:
    store = make(tmp_path)
    name = store.names()[0]
    store.set_alias("alias-of-it", name)
    whole = (tmp_path / "names" / name).read_text()
    (tmp_path / "names" / name).write_text("x")
    checked = check_store(store)
    (reason,) = [corruption.reason for corruption in checked.corrupt]
    assert checked.collections == len(store.names()) - 1 and reason.endswith(f"make the file say {whole}")


def test_a_name_that_cannot_be_read_for_a_moment_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path / "store")
    read, failing = Path.read_bytes, ["c"]

    def once(path: Path) -> bytes:
        if path.name in failing:
            failing.remove(path.name)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", once)
    assert check_store(store).collections == 2 and not failing
    failing.append("c")
    assert back_up(store, tmp_path / "backups").collections == 2 and not failing
    assert restore(tmp_path / "backups", tmp_path / "new").collections == 2
    assert Store(tmp_path / "new").names() == store.names()


def test_a_collection_that_is_being_made_or_dropped_is_not_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, found, checking = make(tmp_path), [], []

    def check_meanwhile(change: Callable[..., object]) -> Callable[..., object]:
        def changed(*arguments: object) -> object:
            checking.append(threading.Thread(target=lambda: found.append(check_store(Store(tmp_path)).corrupt)))
            checking[-1].start()
            checking[-1].join(0.5)  # it waits, or has found what it should not
            return change(*arguments)

        return changed

    monkeypatch.setattr(Registry, "set", check_meanwhile(Registry.set))
    monkeypatch.setattr(root, "remove_folder", check_meanwhile(root.remove_folder))
    store.create("made", SPEC)
    store.drop("other")
    for thread in checking:
        thread.join()
    assert found == [[], []]


def test_a_file_is_no_folder_of_backups(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="/file is a file; expected a folder for backups"):
        back_up(make(tmp_path / "store"), tmp_path / "file")


def test_a_new_collection_has_its_sums(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("empty", SPEC)
    assert check_store(store).without_sum == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: None,
        lambda _: "",
        lambda text: f"{text}\n",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("/data/", "/date/", 1),
        lambda text: "".join(line for line in text.splitlines(keepends=True) if "names/other" not in line),
        lambda text: "".join(line for line in text.splitlines(keepends=True) if "/data/" not in line),
        lambda text: "".join(text.splitlines(keepends=True)[:-1]),
    ],
)
def test_a_backup_whose_list_is_not_what_was_written_is_corrupt(
    tmp_path: Path, damage: Callable[[str], str | None]
) -> None:
    store, destination = make(tmp_path / "store"), tmp_path / "backups"
    whole = back_up(store, destination)
    put(store, "c", "d4")
    torn = back_up(store, destination)
    path = destination / "backups" / torn.name / "SHA256SUMS"
    text = path.read_text()
    path.unlink()
    if (damaged := damage(text)) is not None:
        path.write_text(damaged)
    assert [corruption.file for corruption in check_backups(destination).corrupt] == [str(path)]
    with pytest.raises(BackupError, match=f"{path}, which lists the files of that backup, is"):
        restore(destination, tmp_path / "new")
    assert restore(destination, tmp_path / "older", whole.name).collections == 2
    # The next one is made; nothing goes of which nobody knows whether it is needed.
    files = {file for file in (destination / "collections").rglob("*") if file.is_file()}
    with pytest.raises(BackupError, match=rf"backup 2.* is made, and nothing older was removed.*{torn.name}"):
        back_up(store, destination, keep=2)
    assert all(file.exists() for file in files) and (destination / "backups" / whole.name).exists()
    assert restore(destination, tmp_path / "newest").collections == 2
    shutil.rmtree(path.parent)
    last = back_up(store, destination, keep=1)
    assert [file.name for file in (destination / "backups").iterdir()] == [last.name]
    assert check_backups(destination).corrupt == []


def test_a_backup_that_would_count_as_the_oldest_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, destination = make(tmp_path / "store"), tmp_path / "backups"
    made = back_up(store, destination)

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Behind:
            return cls(2020, 1, 1, tzinfo=tz)

    put(store, "c", "d4")
    files = set(destination.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(backup_module, "datetime", Behind)
        with pytest.raises(BackupError, match=rf"the clock says 2020-.*there is a backup of {made.name}"):
            back_up(store, destination, keep=1)
    assert set(destination.rglob("*")) == files
    assert back_up(store, destination, keep=1).name > made.name


def test_a_damaged_file_that_was_deleted_is_copied_anew(tmp_path: Path) -> None:
    store, destination = make(tmp_path / "store"), tmp_path / "backups"
    back_up(store, destination)
    path = next(path for path in (destination / "collections").rglob("data/*.lance"))
    path.write_bytes(bytes(path.stat().st_size))
    (found,) = check_backups(destination).corrupt
    assert found.file == str(path) and "delete the file, and the next backup copies it anew" in found.reason
    path.unlink()
    assert back_up(store, destination).copied_bytes > 0
    assert check_backups(destination).corrupt == []
    assert restore(destination, tmp_path / "new").collections == 2
