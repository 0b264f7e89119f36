"""The store and its snapshot against a plain dictionary: whatever is written is what is found, and nothing else."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tridex import kernels
from tridex.index import (
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    CollectionSpec,
    Document,
    Follower,
    InvalidDocumentError,
    Store,
    TokenIndexError,
    check_store,
)
from tridex.kernels import Codec

DIM = 8
CPU = torch.device("cpu")
SPEC = CollectionSpec(DIM, Codec.FLOAT32, fingerprint="f" * 64)


def embeddings_of(key: str, salt: int = 0) -> NDArray[np.float32]:
    """Token embeddings that depend on id and revision only; small integers, so that every sum is exact."""
    rng = np.random.default_rng([salt, *key.encode()])
    return rng.integers(-3, 4, (1 + len(key) % 5, DIM)).astype(np.float32)


def brute_force(
    query: NDArray[np.float32], documents: dict[str, NDArray[np.float32]], top_k: int
) -> list[tuple[float, str]]:
    scores = [(-float((query @ tokens.T).max(axis=1).sum()), key) for key, tokens in documents.items()]
    return [(-negated, key) for negated, key in sorted(scores)[:top_k]]


def found(follower: Follower, query: NDArray[np.float32], top_k: int) -> list[tuple[float, str]]:
    queries = torch.from_numpy(query)[None]
    (ranking,) = follower.refresh().search(queries, torch.ones(queries.shape[:2], dtype=torch.bool), top_k)
    return list(zip(ranking.scores.tolist(), ranking.ids, strict=True))


def put(collection, keys: list[str], salt: int = 0) -> int:
    documents = [Document(key, f"text of {key} {salt}", {"salt": salt}) for key in keys]
    return collection.upsert(documents, [embeddings_of(key, salt) for key in keys])


# Ids that a careless SQL filter or a careless sort would get wrong.
IDS = st.one_of(
    st.integers(0, 30).map(str),
    st.sampled_from(
        [
            "it's",
            "a'; DROP TABLE x; --",
            "''",
            'quo"te',
            "back\\slash",
            "%",
            "é",
            "e\u0301",
            "日本",
            "\U0001f600",
            "a\nb",
        ]
    ),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.lists(IDS, min_size=1, max_size=8, unique=True), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.lists(IDS, min_size=1, max_size=8, unique=True), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS, every=st.integers(1, 4))
def test_any_history_is_searched_as_a_dictionary_would_be(tmp_path_factory, operations, every) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    collection = store.create("c", SPEC)
    follower = Follower(store, "c", CPU)
    query = np.random.default_rng(7).integers(-3, 4, (4, DIM)).astype(np.float32)
    model: dict[str, NDArray[np.float32]] = {}
    for step, (operation, keys, salt) in enumerate(operations):
        if operation == "upsert":
            version = put(collection, keys, salt)
            model.update({key: embeddings_of(key, salt) for key in keys})
        else:
            version = collection.delete(keys)
            model = {key: tokens for key, tokens in model.items() if key not in keys}
        # A follower may miss versions in between.
        if step % every == 0:
            assert follower.refresh().version == version
            assert found(follower, query, 5) == brute_force(query, model, 5)
    assert found(follower, query, 100) == brute_force(query, model, 100)
    assert follower.snapshot.count() == collection.count() == len(model)
    # A fresh process sees the same.
    again = Store(store.folder).open("c")
    assert found(Follower(store, "c", CPU), query, 100) == brute_force(query, model, 100)
    assert [d and d.id for d in again.get(list(model))] == list(model)


def test_documents_come_back_as_given(tmp_path: Path) -> None:
    collection = Store(tmp_path).create("c", SPEC)
    document = Document("it's", "naïve text\nof two lines", {"n": 1, "nested": {"list": [1, "two", None]}})
    collection.upsert([document], [embeddings_of("it's")])
    assert collection.get(["missing", "it's"]) == [None, document]


def test_a_snapshot_keeps_its_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    put(collection, ["a", "b"])
    follower = Follower(store, "c", CPU)
    old = follower.snapshot
    put(collection, ["a"], salt=1)
    collection.delete(["b"])
    new = follower.refresh()
    query = torch.ones(1, 1, DIM)
    mask = torch.ones(1, 1, dtype=torch.bool)
    (before,), (after,) = old.search(query, mask, 5), new.search(query, mask, 5)
    assert sorted(before.ids) == ["a", "b"] and after.ids == ["a"]
    texts, _ = old.collection.payload(before.addresses)
    assert sorted(texts) == ["text of a 0", "text of b 0"]
    assert new.collection.payload(after.addresses)[0] == ["text of a 1"]


def test_rescore_ranks_the_candidates_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    keys = [str(i) for i in range(20)]
    put(collection, keys)
    put(collection, ["3", "new"], salt=2)
    collection.delete(["5"])
    query = np.random.default_rng(3).integers(-3, 4, (4, DIM)).astype(np.float32)
    snapshot = Follower(store, "c", CPU).snapshot
    wanted = [["5", "new", "3", "7", "nowhere", "7"], ["nowhere"], ["3"]]
    queries = torch.from_numpy(query).expand(3, -1, -1).contiguous()
    ranking, none, alone = snapshot.rescore(queries, torch.ones((3, 4), dtype=torch.bool), wanted)
    expected = {"new": embeddings_of("new", 2), "3": embeddings_of("3", 2), "7": embeddings_of("7")}
    assert list(zip(ranking.scores.tolist(), ranking.ids, strict=True)) == brute_force(query, expected, 10)
    assert none.ids == [] and list(zip(alone.ids, alone.scores.tolist(), strict=True)) == [
        ("3", dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))["3"])
    ]


def test_many_small_writes_leave_few_segments(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    follower = Follower(store, "c", CPU)
    for i in range(64):
        put(collection, [f"d{i}"])
        follower.refresh()
        while follower.merge():
            pass
    assert follower.snapshot.count() == 64
    assert len(follower.snapshot.segments) <= 7


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, DIM + 1), np.float32), r"'x' have shape \(2, 9\); expected \[tokens, 8\]"),
        (np.full((2, DIM), np.nan, np.float32), r"'x'.*finite"),
    ],
)
def test_bad_embeddings_are_refused_and_nothing_is_written(tmp_path: Path, array, words) -> None:
    collection = Store(tmp_path).create("c", SPEC)
    put(collection, ["kept"])
    version = collection.version
    with pytest.raises(InvalidDocumentError, match=words):
        collection.upsert([Document("y", "", {}), Document("x", "", {})], [embeddings_of("y"), array])
    assert collection.version == version and collection.count() == 1


def test_an_id_twice_in_one_upsert_is_refused(tmp_path: Path) -> None:
    collection = Store(tmp_path).create("c", SPEC)
    with pytest.raises(InvalidDocumentError, match="'a' comes twice"):
        put(collection, ["a", "b", "a"])


def test_unknown_and_existing_collections(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("here", SPEC)
    with pytest.raises(CollectionNotFoundError, match="'gone' does not exist; there are: here"):
        store.open("gone")
    with pytest.raises(CollectionExistsError, match="'here' exists already"):
        store.create("here", SPEC)
    assert store.names() == ["here"]


def test_a_dropped_collection_is_not_the_next_one_of_its_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store.create("c", SPEC), ["old"])
    follower = Follower(store, "c", CPU)
    before = store.resolve("c")
    store.drop("c")
    assert store.names() == [] and not before.folder.exists()
    with pytest.raises(CollectionNotFoundError):
        store.drop("c")
    put(store.create("c", SPEC), ["new"])
    assert store.resolve("c").folder != before.folder and store.open("c").get(["old", "new"])[0] is None
    assert follower.snapshot.search(torch.ones(1, 1, DIM), torch.ones(1, 1, dtype=torch.bool), 5)[0].ids == ["old"]


def test_an_alias_flips_and_rolls_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("blue", "green"):
        put(store.create(name, SPEC), [name])
    for target in ("blue", "green", "blue"):
        store.set_alias("live", target)
        assert store.aliases() == {"live": target} and store.names() == ["blue", "green"]
        # Another process sees the same.
        opened = Store(tmp_path).open("live")
        assert opened.name == target and opened.get([target])[0]
    with pytest.raises(CollectionInUseError, match="alias 'live' leads to it"):
        store.drop("blue")
    store.drop_alias("live")
    store.drop("blue")
    assert store.aliases() == {} and store.names() == ["green"]


def test_a_name_means_one_thing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("here", SPEC)
    store.set_alias("live", "here")
    with pytest.raises(CollectionExistsError, match="'live' is an alias of collection 'here'"):
        store.create("live", SPEC)
    with pytest.raises(CollectionExistsError, match="'here' exists already"):
        store.set_alias("here", "here")
    with pytest.raises(CollectionNotFoundError, match="'live' is an alias itself"):
        store.set_alias("other", "live")
    with pytest.raises(CollectionNotFoundError, match="'gone' does not exist"):
        store.set_alias("live", "gone")
    with pytest.raises(CollectionInUseError, match="'live' is an alias of 'here'"):
        store.drop("live")
    with pytest.raises(CollectionNotFoundError, match="alias 'here' does not exist; there are: live"):
        store.drop_alias("here")
    assert store.aliases() == {"live": "here"}


def test_what_a_crash_left_behind_goes_with_the_next_drop(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create("a", SPEC)
    half = [store.resolve("a").folder.with_name(f".{kind}-b-12345678.lance") for kind in ("new", "dropped")]
    for folder in half:
        folder.mkdir()
    (tmp_path / "names" / ".staged").write_text("{")
    store.create("b", SPEC)
    assert store.names() == ["a", "b"]
    store.drop("a")
    assert not any(folder.exists() for folder in half) and store.open("b").count() == 0


def test_a_drop_takes_no_folder_but_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = [store.create(name, SPEC).folder for name in ("a", "b")]
    (tmp_path / "names" / "a").unlink()
    store.create("c", SPEC)
    store.drop("c")
    assert store.unnamed() == kept[:1] and all(folder.is_dir() for folder in kept)
    # What `check_store` says brings it back.
    (reason,) = [corruption.reason for corruption in check_store(store).corrupt if corruption.file == str(kept[0])]
    said = re.search(r"make the file (\S+) say (\{.*?\});", reason)
    assert said
    Path(said[1]).write_text(said[2])
    assert store.names() == ["a", "b"] and store.open("a").folder == kept[0] and not check_store(store).corrupt


def test_a_foreign_dataset_is_named(tmp_path: Path) -> None:
    import lance
    import pyarrow as pa

    store = Store(tmp_path)
    store.create("c", SPEC)
    lance.write_dataset(pa.table({"id": ["a"]}), str(store.resolve("c").folder), mode="overwrite")
    with pytest.raises(TokenIndexError, match="Tridex did not write"):
        store.open("c")


def test_a_store_of_the_first_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.lance").mkdir()
    with pytest.raises(TokenIndexError, match="store format 1"):
        Store(tmp_path)


@pytest.mark.parametrize("codec", [codec for codec in Codec if not codec.residual_bits])
def test_every_codec_survives_segments_and_their_merging(tmp_path: Path, codec: Codec) -> None:
    """Written, loaded, merged and followed: the hits are those of the documents packed at once."""
    rng = np.random.default_rng(0)
    documents = {str(i): rng.standard_normal((1 + i % 7, 16), np.float32) / 8 for i in range(60)}
    collection = Store(tmp_path).create("c", CollectionSpec(16, codec, fingerprint="f" * 64))
    followers = []
    for first in range(0, 60, 12):
        keys = [str(i) for i in range(first, first + 12)]
        collection.upsert([Document(key, key, {}) for key in keys], [documents[key] for key in keys])
        followers.append(Follower(Store(tmp_path), "c", CPU))
    collection.delete(["7", "33"])
    kept = sorted(documents.keys() - {"7", "33"})
    query = rng.standard_normal((5, 16), np.float32) / 8
    scores, rows = kernels.search(
        torch.from_numpy(query)[None], kernels.pack([documents[key] for key in kept], codec), 10
    )
    expected = [(score, kept[row]) for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True)]
    for follower in (*followers, Follower(Store(tmp_path), "c", CPU)):
        assert found(follower, query, 10) == expected


def test_a_compaction_moves_no_codes_and_searches_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    keys = [f"d{i}" for i in range(40)]
    for i in range(0, 40, 4):
        put(collection, keys[i : i + 4])
    follower = Follower(store, "c", CPU)
    query = np.random.default_rng(5).integers(-3, 4, (4, DIM)).astype(np.float32)
    old = follower.snapshot
    documents = {key: embeddings_of(key) for key in keys}
    # Writes before and after it, all of which the snapshot sees at once.
    put(collection, ["d3", "new"], salt=1)
    collection.compact()
    collection.delete(["d7"])
    put(collection, ["d3"], salt=2)
    collection.compact()
    put(collection, ["last"])
    changed = documents | {key: embeddings_of(key, salt) for key, salt in (("new", 1), ("d3", 2), ("last", 0))}
    del changed["d7"]
    assert found(follower, query, 100) == brute_force(query, changed, 100)
    assert follower.snapshot.segments[0].packed.codes.data_ptr() == old.segments[0].packed.codes.data_ptr()
    (ranking,) = follower.snapshot.search(torch.from_numpy(query)[None], torch.ones((1, 4), dtype=torch.bool), 100)
    revisions = {"d3": 2, "new": 1}
    assert follower.snapshot.collection.payload(ranking.addresses)[0] == [
        f"text of {key} {revisions.get(key, 0)}" for key in ranking.ids
    ]
    # The snapshot in flight still reads its own version, until that is cleaned up.
    collection.clean_up(timedelta(minutes=1))
    (ranking,) = old.search(torch.from_numpy(query)[None], torch.ones((1, 4), dtype=torch.bool), 100)
    assert sorted(ranking.ids) == sorted(keys)
    assert old.collection.payload(ranking.addresses)[0] == [f"text of {key} 0" for key in ranking.ids]
    assert collection.clean_up(timedelta(0)) > 0
    assert found(Follower(store, "c", CPU), query, 100) == brute_force(query, changed, 100)
    assert len(list((collection.folder / "data").iterdir())) == len(collection.dataset.get_fragments())


def test_a_snapshot_whose_history_is_cleaned_up_reads_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    for key in "abcd":
        put(collection, [key])
    follower = Follower(store, "c", CPU)
    put(collection, ["b"], salt=1)
    collection.compact()
    collection.delete(["c"])
    collection.clean_up(timedelta(0))
    query = np.ones((1, DIM), np.float32)
    expected = {"a": embeddings_of("a"), "b": embeddings_of("b", 1), "d": embeddings_of("d")}
    assert found(follower, query, 10) == brute_force(query, expected, 10)


def test_what_is_written_during_a_merge_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    follower = Follower(store, "c", CPU)
    query = np.random.default_rng(6).integers(-3, 4, (4, DIM)).astype(np.float32)
    model: dict[str, NDArray[np.float32]] = {}
    stop = threading.Event()

    def merge() -> None:
        while not stop.wait(0.001):
            follower.merge()

    merging = threading.Thread(target=merge)
    merging.start()
    try:
        for step in range(60):
            keys = [str(step % 23), f"s{step % 7}"]
            put(collection, keys, salt=step)
            model |= {key: embeddings_of(key, step) for key in keys}
            if step % 9 == 8:
                collection.compact()
            if step % 5 == 4:
                collection.delete(keys[:1])
                del model[keys[0]]
            assert found(follower, query, 100) == brute_force(query, model, 100)
    finally:
        stop.set()
        merging.join()
