"""A store that version 0.1.0 wrote (tests/data/store-0.1) is read, searched and written to by the code of today."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tridex.index import CollectionNotFoundError, CollectionSpec, Document, Follower, Ranking, Snapshot, Store
from tridex.kernels import Codec

WRITTEN = Path(__file__).parents[1] / "data" / "store-0.1"
EXPECTED: dict[str, Any] = json.loads((WRITTEN / "expected.json").read_text())
QUERIES = [torch.tensor(query, dtype=torch.float32) for query in EXPECTED["queries"]]
NAMES = sorted(EXPECTED["collections"])
CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy, as opening a store may write to it."""
    return Store(shutil.copytree(WRITTEN / "store", tmp_path / "store"))


def described(spec: CollectionSpec) -> dict[str, Any]:
    return {
        **asdict(spec),
        "codec": spec.codec.value,
        "fields": {name: kind.value for name, kind in spec.fields.items()},
    }


def search(snapshot: Snapshot, query: torch.Tensor, top_k: int = 10) -> Ranking:
    return snapshot.search(query[None], torch.ones((1, len(query)), dtype=torch.bool), top_k)[0]


def assert_ranks(ranking: Ranking, expected: dict[str, Any], tolerance: float = 1e-5) -> None:
    assert ranking.ids == expected["ids"]
    np.testing.assert_allclose(ranking.scores, expected["scores"], rtol=tolerance, atol=tolerance)


def test_every_codec_is_in_it() -> None:
    assert {EXPECTED["collections"][name]["spec"]["codec"] for name in NAMES} == {codec.value for codec in Codec}


def test_names_lead_where_they_led(store: Store) -> None:
    assert (store.names(), store.aliases()) == (EXPECTED["names"], EXPECTED["aliases"])
    assert {name: store.made_from(name) for name in store.names()} == EXPECTED["made_from"]
    assert store.open("live").folder == store.open("texts").folder
    with pytest.raises(CollectionNotFoundError):
        store.resolve("interrupted")
    build = store.resume_build("interrupted")
    assert build is not None and build.source == "b" * 64 and build.collection.count() == 5
    with build:
        store.finish_build(build)
    assert store.open("interrupted").count() == 5


@pytest.mark.parametrize("name", NAMES)
def test_collections_hold_and_find_what_they_did(store: Store, name: str) -> None:
    collection, expected = store.open(name), EXPECTED["collections"][name]
    assert described(collection.spec).items() >= expected["spec"].items()
    assert (collection.version, collection.count()) == (expected["version"], expected["count"])
    assert asdict(collection.size()) == expected["size"]
    documents = [Document(**document) for document in expected["documents"]]
    assert collection.scroll(1000) == documents
    assert collection.get([document.id for document in documents]) == documents

    snapshot = Follower(store, name, CPU).snapshot
    assert snapshot.count() == expected["count"]
    # Format 4's codebooks are rounded when they are loaded (decision 030): the documents stay in their order here.
    tolerance = 0.02 if collection.spec.codec.residual_bits else 1e-5
    by_id = {document.id: document for document in documents}
    for query, ranked in zip(QUERIES, expected["search"], strict=True):
        found = search(snapshot, query)
        assert_ranks(found, ranked, tolerance)
        texts, metadata = collection.payload(found.addresses)
        assert texts == [by_id[key].text for key in found.ids]
        assert [json.loads(one) for one in metadata] == [by_id[key].metadata for key in found.ids]
    for filters, matched in zip(EXPECTED["filters"], expected["filters"], strict=True):
        narrowed = snapshot.filtered(filters)
        assert collection.count(filters) == narrowed.count() == matched["count"]
        assert_ranks(search(narrowed, QUERIES[0]), matched["search"][0], tolerance)
    for text_query, ranked in zip(EXPECTED["text_queries"], expected["texts"], strict=True):
        assert_ranks(snapshot.search_texts(text_query, 10), ranked)


@pytest.mark.parametrize("name", NAMES)
def test_they_can_be_written_to(store: Store, name: str) -> None:
    collection, expected = store.open(name), EXPECTED["collections"][name]
    follower = Follower(store, name, CPU)
    replaced, deleted, *others = [document["id"] for document in expected["documents"]]
    token = np.eye(collection.spec.dim, dtype=np.float32)[:1]
    written = [
        Document(replaced, "an unheard word", {"year": 1999}),
        Document("added", "another unheard word", {"rating": 1, "seen": "2021-01-01"}),
    ]
    collection.upsert(written, [token, token])
    version = collection.delete([deleted])
    snapshot = follower.refresh()
    assert snapshot.version == version
    assert collection.count() == snapshot.count() == expected["count"]
    assert collection.get([replaced, "added", deleted]) == [*written, None]
    assert sorted(search(snapshot, QUERIES[0], 1000).ids) == sorted([replaced, "added", *others])
    assert sorted(snapshot.search_texts("unheard", 10).ids) == sorted([replaced, "added"])
    assert collection.count({"field": "year", "operator": "==", "value": 1999}) == 1

    collection.compact()
    collection.index_new_texts()
    assert sorted(search(follower.refresh(), QUERIES[0], 1000).ids) == sorted([replaced, "added", *others])
    assert Store(store.folder).open(name).get([replaced, "added", deleted]) == [*written, None]
