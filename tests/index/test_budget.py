"""Admission to memory: nothing is loaded that the budget has no room for, and snapshots stay within it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tridex import kernels
from tridex.index import (
    Collection,
    CollectionSpec,
    Document,
    Extra,
    Follower,
    MemoryBudget,
    MemoryBudgetError,
    Size,
    Snapshot,
    Store,
    needed_bytes,
)
from tridex.index.resident import approximations, snapshot
from tridex.index.resident.inverted_lists import InvertedLists, lists_bytes
from tridex.kernels import Codec
from tridex.kernels.cpu import backend as cpu

DIM = 32
SPEC = CollectionSpec(DIM, Codec.FLOAT32, fingerprint="f" * 64)
CPU = torch.device("cpu")


def put(collection: Collection, first: int, count: int, tokens: int = 10) -> int:
    keys = [f"d{i:04}" for i in range(first, first + count)]
    ones = np.ones((tokens, DIM), np.float32)
    return collection.upsert([Document(key, key, {}) for key in keys], [ones] * count)


def resident_bytes(snapshot: Snapshot) -> int:
    """What the snapshot's arrays take."""
    segments = snapshot.segments
    codes = sum(
        segment.packed.codes.nbytes + segment.packed.offsets.nbytes + segment.packed.live.nbytes for segment in segments
    )
    return codes + sum(segment.ids.nbytes + segment.addresses.nbytes + segment.live.nbytes for segment in segments)


def test_what_does_not_fit_is_refused_with_figures_and_the_rest_is_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, count in (("large", 400), ("small", 40)):
        put(store.create(name, SPEC), 0, count)
    budget = MemoryBudget(300_000)
    assert needed_bytes(SPEC, Size(400, 4000, 2000)) > budget.usable > needed_bytes(SPEC, Size(40, 400, 200))
    with pytest.raises(MemoryBudgetError, match=r"'large' needs 631\.32 kB .*128 bytes per token.*budget of 300"):
        Follower(store, "large", CPU, budget=budget)
    assert Follower(store, "small", CPU, budget=budget).snapshot.count() == 40


def test_growth_beyond_the_budget_keeps_the_snapshot_until_there_is_room(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    put(collection, 0, 100)
    budget = MemoryBudget(300_000)
    follower = Follower(store, "c", CPU, budget=budget)
    # Replacing everything over and over needs no more room than there is.
    for _ in range(5):
        put(collection, 0, 100)
        assert follower.refresh().count() == 100
        while follower.merge():
            pass
        assert resident_bytes(follower.snapshot) <= needed_bytes(SPEC, Size(100, 1000, 500))
    put(collection, 100, 100)
    before = follower.snapshot
    with pytest.raises(MemoryBudgetError, match="'c' needs"):
        follower.refresh()
    assert follower.snapshot is before
    collection.delete([f"d{i:04}" for i in range(90)])
    assert follower.refresh().count() == 110


def test_a_snapshot_under_random_writes_stays_within_what_it_reserved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    budget = MemoryBudget(2_000_000)
    follower = Follower(store, "c", CPU, budget=budget)
    for _ in range(40):
        put(collection, int(rng.integers(0, 300)), int(rng.integers(1, 40)), tokens=int(rng.integers(1, 20)))
        if rng.random() < 0.2:
            collection.delete([f"d{i:04}" for i in rng.integers(0, 300, 30)])
        follower.refresh()
        while follower.merge():
            assert resident_bytes(follower.snapshot) <= budget.size
        assert resident_bytes(follower.snapshot) <= needed_bytes(SPEC, collection.size())
        largest = budget.segment_bytes + 20 * SPEC.codec.bytes_per_token(DIM)
        assert all(segment.packed.codes.nbytes <= largest for segment in follower.snapshot.segments)


def test_a_collection_gives_back_what_its_replaced_and_deleted_rows_took(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", SPEC)
    put(collection, 0, 100)
    budget = MemoryBudget(2_000_000)
    follower = Follower(store, "c", CPU, budget=budget)
    alone = budget.needed
    for _ in range(10):
        put(collection, 0, 100)
        follower.refresh()
    assert alone <= budget.needed <= 1.15 * alone
    collection.delete([f"d{i:04}" for i in range(50)])
    follower.refresh()
    assert budget.needed == needed_bytes(SPEC, Size(50, 500, 250)) == pytest.approx(alone / 2, rel=0.01)


def test_ids_and_codebooks_count(tmp_path: Path) -> None:
    collection = Store(tmp_path).create("c", SPEC)
    keys = [f"{i:04}" + "é" * 300 for i in range(50)]
    collection.upsert([Document(key, "text", {}) for key in keys], [np.ones((1, DIM), np.float32)] * 50)
    assert collection.size() == Size(50, 50, 50 * 604)
    snapshot = Follower(Store(tmp_path), "c", CPU).snapshot
    assert resident_bytes(snapshot) <= needed_bytes(SPEC, collection.size())
    assert resident_bytes(snapshot) > needed_bytes(SPEC, Size(50, 50, 0))
    codebook = kernels.train_codebook(
        np.random.default_rng(0).normal(size=(400, DIM)).astype(np.float32), Codec.RESIDUAL2, centroids=16
    )
    more = needed_bytes(SPEC, collection.size(), codebook) - needed_bytes(SPEC, collection.size())
    assert more == 16 * DIM + 4


def lists_of(snapshot: Snapshot) -> list[InvertedLists | None]:
    return [segment.inverted.lists for segment in snapshot.segments]


def test_inverted_lists_take_what_is_left_and_give_way_to_documents(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store.create("c", SPEC), 0, 7000, tokens=1)
    other = store.create("other", SPEC)
    rows = needed_bytes(SPEC, store.open("c").size())
    budget = MemoryBudget(int((rows + 300_000) / (1 - 1 / 8)))
    follower = Follower(store, "c", CPU, segment_bytes=2**30, budget=budget)
    beside = Follower(store, "other", CPU, budget=budget)
    queries, mask = torch.ones((1, 2, DIM)), torch.ones((1, 2), dtype=torch.bool)
    follower.snapshot.search_candidates(queries, mask, 5, 4, 10)
    follower.make(Extra.INVERTED_LISTS)
    made = [lists for lists in lists_of(follower.snapshot) if lists]
    assert made
    for lists, segment in zip(lists_of(follower.snapshot), follower.snapshot.segments, strict=True):
        if lists:
            taken = lists.centroids.nbytes + lists.rows.nbytes + lists.starts.nbytes
            assert taken <= lists_bytes(segment.packed)
    # Another collection needs the room: its documents are loaded, and the lists are gone.
    put(other, 0, 400, tokens=4)
    assert beside.refresh().count() == 400
    assert lists_of(follower.snapshot) == [None] * len(follower.snapshot.segments)
    (exact,) = follower.snapshot.search_candidates(queries, mask, 5, 4, 10)
    assert len(exact.ids) == 5
    follower.make(Extra.INVERTED_LISTS)  # Not tried again within a minute.
    for segment in follower.snapshot.segments:
        segment.inverted.retry_at = 0
    with pytest.raises(
        MemoryBudgetError, match=r"inverted lists of collection 'c' need .* of the budget of .* do without"
    ):
        follower.make(Extra.INVERTED_LISTS)
    assert lists_of(follower.snapshot) == [None] * len(follower.snapshot.segments)


def big(collection: Collection, count: int) -> None:
    """So many tokens that an approximation is worth its memory."""
    rng = np.random.default_rng(count)
    keys = [f"{i:04}" for i in range(256)]
    documents = [Document(key, "text", {}) for key in keys]
    collection.upsert(documents, rng.normal(size=(256, count // 256, DIM)).astype(np.float32))


def make_all(follower: Follower) -> None:
    """A turn for each segment."""
    for _ in follower.snapshot.segments:
        follower.make(Extra.APPROXIMATIONS)


def test_extras_of_a_collection_that_was_let_go_take_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    collection = store.create("c", CollectionSpec(DIM, Codec.FLOAT32, "f" * 64))
    budget = MemoryBudget(10**9)
    budget.reserve(collection, 1000)
    budget.reserve_extra(collection, Extra.INVERTED_LISTS, 10, lambda: None)
    budget.release(collection.folder)
    for extra in Extra:
        with pytest.raises(MemoryBudgetError, match=r"'c' has been let go; it gets no"):
            budget.reserve_extra(collection, extra, 10, lambda: None)
    assert budget.used == 0


def test_an_approximation_takes_what_is_left_and_gives_way_to_lists_and_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "approximates", lambda _: True)
    monkeypatch.setattr(approximations, "_MIN_NUMBERS", 1 << 12)
    monkeypatch.setattr(snapshot, "MIN_LISTED_DOCUMENTS", 1)
    store = Store(tmp_path)
    big(store.create("c", CollectionSpec(DIM, Codec.FLOAT32, "f" * 64)), 4096)
    need = needed_bytes(store.open("c").spec, store.open("c").size())
    budget = MemoryBudget(int((need + 130_000) / (1 - 1 / 8)))
    follower = Follower(store, "c", CPU, segment_bytes=2**30, budget=budget)
    slots = [segment.approximated for segment in follower.snapshot.segments]
    make_all(follower)
    made = [slot.approximation for slot in slots]
    assert any(made)
    size = sum(
        kernels.approximation_bytes(segment.packed)
        for segment in follower.snapshot.segments
        if segment.approximated.approximation
    )
    assert budget.taken(store.open("c").folder) == need + size
    mask = torch.ones((1, 2), dtype=torch.bool)
    follower.snapshot.search_candidates(torch.ones((1, 2, DIM)), mask, 5, 4, 10)
    follower.make(Extra.INVERTED_LISTS)
    assert any(segment.inverted.lists for segment in follower.snapshot.segments)
    assert not any(slot.approximation for slot in slots), "the lists needed the room"
    assert need < budget.used <= budget.usable
    for slot in slots:
        slot.retry_at = 0
    make_all(follower)
    assert not all(slot.approximation for slot in slots), "no room for all, and no error"
    assert need < budget.used <= budget.usable
