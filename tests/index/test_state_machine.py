"""A store through random histories that include failing calls, with followers that keep up and fall behind.

Whatever happens, a snapshot shows what the store held at its version, each document once, and an error says that
nothing is lost: the files are whole all the time. Over more than 256 documents, so that the text index is extended and
compactions have to move rows of it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
import torch
from faults import OF_LANCE, OF_THE_SYSTEM, Trouble, failing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from tridex.index import CollectionSpec, Document, Follower, Snapshot, Store, StoreUnavailableError
from tridex.kernels import Codec

DIM = 4
SPEC = CollectionSpec(DIM, Codec.FLOAT32, "f" * 64)
CPU = torch.device("cpu")
WORDS = ("red", "green", "blue", "grey")
IDS = [f"d{i:03}" for i in range(500)]

Rows = dict[str, int]
"""The revision of each document; text and embeddings follow from id and revision."""

FAULTS = [
    *(((Path, name), trouble) for name in ("iterdir", "read_bytes") for trouble in OF_THE_SYSTEM),
    *(
        (where, trouble)
        for where in (
            (lance, "dataset"),
            (lance.LanceDataset, "read_transaction"),
            (lance.LanceDataset, "checkout_version"),
            (lance.LanceDataset, "get_fragments"),
            (lance.LanceDataset, "scanner"),
            (lance.LanceDataset, "count_rows"),
        )
        for trouble in OF_LANCE
    ),
]
"""Calls that read files, and what they may raise."""


def embeddings_of(key: str, revision: int) -> NDArray[np.float32]:
    """Small integers, so that every sum is exact."""
    rng = np.random.default_rng([revision, *key.encode()])
    return rng.integers(-3, 4, (1 + (len(key) + revision) % 3, DIM)).astype(np.float32)


def word_of(key: str, revision: int) -> str:
    return WORDS[(revision + sum(key.encode())) % len(WORDS)]


def document(key: str, revision: int) -> Document:
    return Document(key, f"{word_of(key, revision)} thing", {"revision": revision})


class MutableStore(RuleBasedStateMachine):
    """One writer, a follower that is asked to keep up, and one that is asked now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        store = Store(self.folder)
        self.collection = store.create("c", SPEC)
        self.rows: Rows = {}
        self.history: dict[int, Rows] = {self.collection.version: {}}
        """What each version holds."""
        self.revision = 0
        # Small segments, so that neighbours are left apart.
        self.eager = Follower(store, "c", CPU, segment_bytes=4096)
        self.lazy = Follower(store, "c", CPU, segment_bytes=4096)
        self.oldest = 0
        """The oldest version that was not cleaned up."""
        for first in range(0, 300, 30):
            self.upsert(first, 30, again=False)
        self.extend_text_index()

    @rule(first=st.integers(0, len(IDS) - 1), count=st.integers(1, 120), again=st.booleans())
    def upsert(self, first: int, count: int, again: bool) -> None:
        """Neighbours in the order of ids; `again` as they were, where they were there."""
        self.revision += 1
        keys = [IDS[i % len(IDS)] for i in range(first, first + count)]
        written = {key: self.rows.get(key, self.revision) if again else self.revision for key in keys}
        self.collection.upsert(
            [document(*row) for row in written.items()], [embeddings_of(*r) for r in written.items()]
        )
        self.wrote(self.rows | written)

    @rule(many=st.integers(20, 40))
    def upsert_one_by_one(self, many: int) -> None:
        """Files of one document, which are worth merging."""
        for i in range(many):
            self.upsert(7 * i + self.revision, 1, again=False)

    @rule(first=st.integers(0, len(IDS) - 1), step=st.integers(1, 5), count=st.integers(1, 80))
    def delete(self, first: int, step: int, count: int) -> None:
        keys = [IDS[i % len(IDS)] for i in range(first, first + step * count, step)]
        self.collection.delete(keys)
        self.wrote({key: revision for key, revision in self.rows.items() if key not in keys})

    @rule()
    def compact(self) -> None:
        self.collection.compact()
        self.wrote(self.rows)

    @rule()
    def compact_in_steps(self) -> None:
        while self.collection.compact_some():
            self.wrote(self.rows)

    @rule()
    def extend_text_index(self) -> None:
        self.collection.index_new_texts()
        self.wrote(self.rows)

    @rule()
    def clean_up(self) -> None:
        self.collection.clean_up(timedelta(0))
        self.oldest = self.collection.version

    @rule()
    def restart(self) -> None:
        """The writer, and the follower that keeps up."""
        self.collection = Store(self.folder).open("c")
        self.eager = Follower(Store(self.folder), "c", CPU, segment_bytes=4096)

    @rule()
    def refresh_lazily(self) -> None:
        assert self.lazy.refresh().version == self.collection.version

    @rule()
    def merge(self) -> None:
        self.eager.merge()
        self.lazy.merge()

    @rule(
        fault=st.sampled_from(FAULTS),
        after=st.integers(0, 3),
        lazily=st.booleans(),
        write=st.booleans(),
    )
    def fail(self, fault: tuple[tuple[Any, str], Trouble], after: int, lazily: bool, write: bool) -> None:
        """Calls fail while a snapshot is refreshed, and where the store is opened and listed."""
        if write:
            self.upsert_one_by_one(many=9)
            self.compact_in_steps()
        follower = self.lazy if lazily else self.eager
        (owner, name), trouble = fault
        with failing(owner, name, trouble, after=after):
            with only_unavailable():
                assert follower.refresh().version == self.collection.version
            seen = follower.snapshot
            with only_unavailable():
                assert Store(self.folder).names() == ["c"]
            with only_unavailable():
                assert Store(self.folder).open("c").count() == len(self.rows)
        self.check(seen)
        assert follower.refresh().version == self.collection.version

    @invariant()
    def views_show_their_versions(self) -> None:
        assert self.eager.refresh().version == self.collection.version
        for follower in (self.eager, self.lazy):
            self.check(follower.snapshot)

    def check(self, snapshot: Snapshot) -> None:
        rows = self.history[snapshot.version]
        assert snapshot.count() == len(rows)
        query = embeddings_of("query", self.revision)
        mask = torch.ones((1, len(query)), dtype=torch.bool)
        (ranking,) = snapshot.search(torch.from_numpy(query)[None], mask, len(IDS))
        assert sorted(ranking.ids) == sorted(rows)
        scores = {key: float((query @ embeddings_of(key, r).T).max(axis=1).sum()) for key, r in rows.items()}
        assert dict(zip(ranking.ids, ranking.scores.tolist(), strict=True)) == scores
        if snapshot.version < self.oldest:
            return
        word = WORDS[self.revision % len(WORDS)]
        found = snapshot.search_texts(word, len(IDS)).ids
        assert sorted(found) == sorted(key for key, revision in rows.items() if word_of(key, revision) == word)
        texts, _ = snapshot.collection.payload(ranking.addresses[:5])
        assert texts == [document(key, rows[key]).text for key in ranking.ids[:5]]

    def wrote(self, rows: Rows) -> None:
        for version in range(max(self.history) + 1, self.collection.version):
            self.history[version] = self.rows  # Lance's own versions on the way to one that moves rows.
        self.rows = self.history[self.collection.version] = rows

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


@contextmanager
def only_unavailable() -> Iterator[None]:
    """What may be raised while calls fail, and never an advice to replace files."""
    try:
        yield
    except StoreUnavailableError as error:
        assert "drop the collection" not in str(error)


TestMutableStore = MutableStore.TestCase
TestMutableStore.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


def test_a_refusal_never_advises_to_replace_whole_files(tmp_path: Path) -> None:
    collection = Store(tmp_path).create("c", SPEC)
    for trouble in OF_LANCE:
        with (
            failing(lance.LanceDataset, "count_rows", trouble),
            pytest.raises(StoreUnavailableError, match="try again"),
        ):
            collection.count()
