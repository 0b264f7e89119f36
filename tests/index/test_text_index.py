"""BM25 over a mutable collection: the formula's scores, and no document missed whatever the index knows of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from removed_files import create_indexed, search_and_rewrite

from tridex.index import (
    Collection,
    CollectionSpec,
    Document,
    Follower,
    Ranking,
    Snapshot,
    Store,
    declared_fields,
)
from tridex.index.storage.lance_session import keeps_removed_files
from tridex.kernels import Codec

SPEC = CollectionSpec(4, Codec.FLOAT32, "f" * 64, declared_fields({"odd": "bool"}))
WORDS = [f"w{i}" for i in range(30)]
TOKEN = np.eye(4, dtype=np.float32)[:1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def collection(store: Store) -> Collection:
    return store.create("c", SPEC)


def random_texts(seed: int, first: int, count: int) -> dict[str, str]:
    rng = np.random.default_rng([seed, first])
    return {f"{i:04}": " ".join(rng.choice(WORDS, rng.integers(1, 30))) for i in range(first, first + count)}


def upsert(collection: Collection, texts: dict[str, str]) -> None:
    documents = [Document(key, text, {"odd": len(text) % 2 == 1}) for key, text in texts.items()]
    collection.upsert(documents, [TOKEN] * len(documents))


def snapshot(store: Store) -> Snapshot:
    return Follower(store, "c", torch.device("cpu")).snapshot


def bm25(texts: dict[str, str], query: str) -> dict[str, float]:
    """The formula, word by word (Robertson and Zaragoza 2009, with Lucene's idf)."""
    words = {key: text.split() for key, text in texts.items()}
    mean_length = sum(map(len, words.values())) / len(words)
    scores: dict[str, float] = {}
    for word in query.split():
        holding = sum(word in text for text in words.values())
        idf = math.log(1 + (len(words) - holding + 0.5) / (holding + 0.5))
        for key, text in words.items():
            if tf := text.count(word):
                share = tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(text) / mean_length))
                scores[key] = scores.get(key, 0) + idf * share
    return scores


def assert_ranks(found: Ranking, expected: dict[str, float]) -> None:
    scores = dict(zip(found.ids, found.scores.tolist(), strict=True))
    assert scores == pytest.approx(expected, rel=1e-5)
    assert list(scores.items()) == sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))


def test_scores_are_the_formulas_in_one_part_of_the_index_and_in_several(store: Store, collection: Collection) -> None:
    texts: dict[str, str] = {}
    for first, count in ((0, 5000), (5000, 300), (5300, 300)):
        more = random_texts(0, first, count)
        upsert(collection, more)
        texts |= more
        assert collection.latest().index_new_texts()
        for query in ("w1", "w1 w2 w29", "w3 w3 w4", "w5 elsewhere"):
            assert_ranks(snapshot(store).search_texts(query, len(texts)), bm25(texts, query))
    partitions = collection.latest().dataset.stats.index_stats("text_idx")["num_indexed_rows_per_delta"]
    assert partitions == [5000, 600], "small ones are merged, the large one stays"
    assert not collection.latest().index_new_texts(), "nothing is new"


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    indexed=st.integers(0, 300),
    query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
    top_k=st.integers(1, 50),
)
def test_whatever_is_indexed_every_document_with_a_word_is_found(
    tmp_path: Path, seed: int, indexed: int, query: list[str], top_k: int
) -> None:
    store = Store(tmp_path / f"{seed}-{indexed}-{'-'.join(query)}-{top_k}")
    collection = store.create("c", SPEC)
    texts = random_texts(seed, 0, 300)
    upsert(collection, dict(list(texts.items())[:indexed]))
    collection.latest().index_new_texts()
    upsert(collection, dict(list(texts.items())[indexed // 2 :]))
    gone = list(texts)[:: 1 + seed % 5]
    collection.delete(gone)
    texts = {key: text for key, text in texts.items() if key not in gone}
    newest = snapshot(store)
    matching = {key for key, text in texts.items() if {*query} & {*text.split()}}
    everything = newest.search_texts(" ".join(query), 300)
    assert {*everything.ids} == matching and len(everything.ids) == len(matching)
    first = newest.search_texts(" ".join(query), top_k)
    assert (first.ids, first.scores.tolist()) == (everything.ids[:top_k], everything.scores[:top_k].tolist())
    odd = newest.filtered({"field": "odd", "operator": "==", "value": True}).search_texts(" ".join(query), 300)
    assert {*odd.ids} == {key for key in matching if len(texts[key]) % 2}
    texts_there, _ = newest.collection.payload(everything.addresses)
    assert texts_there == [texts[key] for key in everything.ids]


def test_documents_that_tie_come_by_id(store: Store, collection: Collection) -> None:
    keys = np.random.default_rng(0).permutation(500)
    upsert(collection, {f"{key:04}": "the same words" for key in keys})
    assert snapshot(store).search_texts("words", 7).ids == [f"{i:04}" for i in range(7)]
    collection.latest().index_new_texts()
    assert snapshot(store).search_texts("words", 7).ids == [f"{i:04}" for i in range(7)]


def test_a_snapshot_reads_the_words_of_its_own_version(store: Store, collection: Collection) -> None:
    upsert(collection, {"a": "red planet", "b": "blue moon"})
    before = snapshot(store)
    upsert(collection, {"a": "green planet", "c": "red dust"})
    collection.delete(["b"])
    after = snapshot(store)
    assert [before.search_texts(word, 9).ids for word in ("red", "moon", "green")] == [["a"], ["b"], []]
    assert [after.search_texts(word, 9).ids for word in ("red", "moon", "green")] == [["c"], [], ["a"]]


def test_a_collection_of_an_earlier_version_gets_its_index(store: Store, collection: Collection) -> None:
    upsert(collection, {"a": "running dogs"})
    collection.dataset.drop_index("text_idx")
    assert snapshot(store).search_texts("dogs", 9).ids == ["a"], "found by reading, unstemmed"
    assert collection.latest().index_new_texts()
    assert [index.name for index in collection.latest().dataset.describe_indices()] == ["text_idx"]
    assert snapshot(store).search_texts("the run", 9).ids == ["a"], "stemmed, without stop words"


@pytest.mark.parametrize("query", ["", "  ", "?!", "_", "the of and", "\x00", "x" * 100_000])
def test_a_query_without_a_word_that_counts_finds_nothing(store: Store, collection: Collection, query: str) -> None:
    upsert(collection, {"a": "one two the of and"})
    assert snapshot(store).search_texts(query, 10).ids == []


def test_only_the_first_words_of_an_endless_query_count(store: Store, collection: Collection) -> None:
    upsert(collection, {"a": "first", "b": "last"})
    found = snapshot(store).search_texts("first " + "(more) AND " * 20_000 + '"last"', 10)
    assert found.ids == ["a"]


def test_files_that_are_removed_do_not_stay_open(store: Store) -> None:
    create_indexed(store, "c", "idle")
    followers = [Follower(store, name, torch.device("cpu")) for name in ("c", "idle")]
    idle = followers[1].snapshot
    found = idle.collection.search_texts("word3", 5)
    followers[0].snapshot.collection.search_texts("word3", 5)
    search_and_rewrite(store, "c")
    followers[0].refresh()
    assert keeps_removed_files(store.folder), "the index's files were not open, so that this shows nothing"
    store.close_removed_files()
    for follower in followers:
        follower.refresh()
    assert not keeps_removed_files(store.folder)
    assert followers[1].snapshot is idle and idle.collection.search_texts("word3", 5).ids == found.ids
    assert followers[0].snapshot.collection.search_texts("word3", 5).ids == found.ids
