"""The library through random histories of writes, filters and searches: it answers as a dictionary would."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from filter_strategies import FIELDS
from hypothesis import settings
from hypothesis.stateful import rule
from mutable_index import MutableIndex, Rows
from numpy.typing import NDArray

from tridex.index import CollectionSpec, Document, Follower, Store, declared_fields
from tridex.kernels import Codec

DIM = 8
SPEC = CollectionSpec(DIM, Codec.FLOAT32, "f" * 64, declared_fields(FIELDS))


def embeddings_of(text: str, key: str = "") -> NDArray[np.float32]:
    """Small integers, so that every sum is exact."""
    rng = np.random.default_rng([*text.encode(), *key.encode()])
    return rng.integers(-3, 4, (1 + len(text + key) % 5, DIM)).astype(np.float32)


class Library:
    """A collection and the snapshot that follows it."""

    def __init__(self, folder: str) -> None:
        store = Store(folder)
        self.collection = store.create("c", SPEC)
        # Segments of a few documents, so that neighbours are also left apart.
        self.follower = Follower(store, "c", torch.device("cpu"), segment_bytes=1024)
        self.compactions = 0

    def upsert(self, rows: Rows) -> int:
        documents = [Document(key, text, dict(metadata)) for key, (text, metadata) in rows.items()]
        return self.collection.upsert(documents, [embeddings_of(d.text, d.id) for d in documents])

    def delete(self, ids: Sequence[str]) -> int:
        return self.collection.delete(ids)

    def delete_matching(self, wanted: dict[str, Any]) -> int:
        return self.collection.delete_matching(wanted)

    def compact(self) -> int:
        # By itself: the snapshot may have to follow several compactions, and writes between them, at once.
        version = self.collection.compact()
        self.compactions += 1
        if self.compactions % 3 == 0:
            self.collection.clean_up(timedelta(0))
        return version

    def merge(self) -> None:
        self.follower.merge()

    def search(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> list[tuple[float, str]]:
        snapshot = self.follower.refresh()
        snapshot = snapshot if wanted is None else snapshot.filtered(wanted)
        queries = torch.from_numpy(embeddings_of(query))[None]
        (ranking,) = snapshot.search(queries, torch.ones(queries.shape[:2], dtype=torch.bool), top_k)
        return list(zip(ranking.scores.tolist(), ranking.ids, strict=True))

    def search_words(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> list[tuple[float, str]]:
        snapshot = self.follower.refresh()
        ranking = (snapshot if wanted is None else snapshot.filtered(wanted)).search_texts(query, top_k)
        return list(zip(ranking.scores.tolist(), ranking.ids, strict=True))

    def count(self, wanted: dict[str, Any] | None) -> int:
        return self.collection.count(wanted)

    def scroll(self, limit: int, after: str | None, wanted: dict[str, Any] | None) -> Rows:
        return {d.id: (d.text, d.metadata) for d in self.collection.scroll(limit, after, wanted)}


class MutableLibrary(MutableIndex):
    """Over a store of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.index = Library(self.folder)

    @rule()
    def merge(self) -> None:
        self.index.merge()

    def expected_scores(self, query: str) -> dict[str, float]:
        return {
            key: float((embeddings_of(query) @ embeddings_of(text, key).T).max(axis=1).sum())
            for key, (text, _) in self.model.items()
        }

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestMutableLibrary = MutableLibrary.TestCase
TestMutableLibrary.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
