"""Ids are unique whatever an earlier version left: snapshots show the newest row of each, writers remove the others."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from tridex.index import Collection, CollectionSpec, Document, Follower, Snapshot, Store, declared_fields
from tridex.kernels import Codec

SPEC = CollectionSpec(4, Codec.FLOAT32, "f" * 64, declared_fields({"old": "bool"}))
CPU = torch.device("cpu")
TOKEN = np.eye(4, dtype=np.float32)[:1]


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Store(tmp_path).create("c", SPEC)


def append(collection: Collection, keys: range, text: str, old: bool = False) -> None:
    """As a second server did: existing ids are inserted again."""
    documents = [Document(f"{i:03}", text, {"old": old}) for i in keys]
    collection.append(documents, [TOKEN * (1 if old else 2)] * len(documents))


def assert_shows(snapshot: Snapshot, texts: dict[str, str]) -> None:
    assert snapshot.count() == len(texts)
    (ranking,) = snapshot.search(torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool), 500)
    assert sorted(ranking.ids) == sorted(texts)
    found_texts, _ = snapshot.collection.payload(ranking.addresses)
    assert dict(zip(ranking.ids, found_texts, strict=True)) == texts
    for word in ("older", "newer"):
        found = snapshot.search_texts(word, 500).ids
        assert sorted(found) == sorted(key for key, text in texts.items() if word in text.split())
        assert snapshot.search_texts(word, 3).ids == found[:3]


@pytest.mark.parametrize("indexed", [False, True])
def test_a_snapshot_shows_the_newest_row_of_each_id(tmp_path: Path, collection: Collection, indexed: bool) -> None:
    append(collection, range(300), "older", old=True)
    if indexed:
        collection.index_new_texts()
    early = Follower(Store(tmp_path), "c", CPU)
    append(collection, range(200, 310), "newer")
    append(collection, range(205, 215), "newer still")
    texts = {f"{i:03}": "newer still" if 205 <= i < 215 else "newer" if i >= 200 else "older" for i in range(310)}
    late = Follower(Store(tmp_path), "c", CPU)
    for follower in (early, late):
        assert_shows(follower.refresh(), texts)
        assert follower.snapshot.duplicates == collection.count() - len(texts) == 110
        old = follower.snapshot.filtered({"field": "old", "operator": "==", "value": True})
        assert old.count() == len(old.search_texts("older", 500).ids) == 200
    # Other writes, and merges beside them, bring no duplicate back.
    collection.upsert([Document("new", "newer", {})], [TOKEN])
    for follower in (early, late):
        follower.refresh()
        while follower.merge():
            pass
        assert_shows(follower.snapshot, texts | {"new": "newer"})


@pytest.mark.parametrize("clean", [False, True])
def test_writers_remove_the_older_rows(
    tmp_path: Path, collection: Collection, clean: bool, caplog: pytest.LogCaptureFixture
) -> None:
    append(collection, range(300), "older", old=True)
    follower = Follower(Store(tmp_path), "c", CPU)
    append(collection, range(200, 310), "newer")
    follower.refresh()
    texts = {f"{i:03}": "newer" if i >= 200 else "older" for i in range(310)}
    with caplog.at_level(logging.WARNING):
        collection.compact()
    assert "'c': 100 rows had ids that another row has too" in caplog.text
    if clean:
        collection.clean_up(timedelta(0))
    assert collection.count() == 310 and collection.repair_duplicates() == 0
    assert sorted((d.id, d.text) for d in collection.scroll(400)) == sorted(texts.items())
    for snapshot in (follower.refresh(), Follower(Store(tmp_path), "c", CPU).snapshot):
        assert_shows(snapshot, texts)
        assert snapshot.duplicates == 0


def test_many_duplicates_and_one_id_many_times(tmp_path: Path, collection: Collection) -> None:
    for i in range(7):
        append(collection, range(20), "newer" if i == 6 else "older")
    assert collection.repair_duplicates() == 120
    assert_shows(Follower(Store(tmp_path), "c", CPU).snapshot, {f"{i:03}": "newer" for i in range(20)})
