"""Admission to memory: nothing is loaded that the budget has no room for, and views stay within it as they change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tridex.index import (
    Collection,
    CollectionSpec,
    Document,
    Follower,
    MemoryBudget,
    MemoryBudgetError,
    Store,
    View,
    needed_bytes,
)
from tridex.kernels import Codec

DIM = 32
SPEC = CollectionSpec(DIM, Codec.FLOAT32, fingerprint="f" * 64)
CPU = torch.device("cpu")


def put(collection: Collection, first: int, count: int, tokens: int = 10) -> int:
    keys = [f"d{i:04}" for i in range(first, first + count)]
    ones = np.ones((tokens, DIM), np.float32)
    return collection.upsert([Document(key, key, {}) for key in keys], [ones] * count)


def resident_bytes(view: View) -> int:
    """What the view's arrays take."""
    parts = view.segments
    codes = sum(part.segment.codes.nbytes + part.segment.offsets.nbytes + part.segment.live.nbytes for part in parts)
    return codes + sum(part.ids.nbytes + part.addresses.nbytes + part.live.nbytes for part in parts)


def test_what_does_not_fit_is_refused_with_figures_and_the_rest_is_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, count in (("large", 400), ("small", 40)):
        put(store.create(name, SPEC), 0, count)
    budget = MemoryBudget(300_000)
    assert needed_bytes(SPEC, 400, 4000) > budget.usable > needed_bytes(SPEC, 40, 400)
    with pytest.raises(MemoryBudgetError, match=r"'large' needs 658\.29 kB .*128 bytes a token.*budget of 300"):
        Follower(store, "large", CPU, budget=budget)
    assert Follower(store, "small", CPU, budget=budget).view.count() == 40


def test_growth_beyond_the_budget_keeps_the_view_until_there_is_room(tmp_path: Path) -> None:
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
        assert resident_bytes(follower.view) <= needed_bytes(SPEC, 100, 1000)
    put(collection, 100, 100)
    before = follower.view
    with pytest.raises(MemoryBudgetError, match="'c' needs"):
        follower.refresh()
    assert follower.view is before
    collection.delete([f"d{i:04}" for i in range(90)])
    assert follower.refresh().count() == 110


def test_a_view_under_random_writes_stays_within_what_it_reserved(tmp_path: Path) -> None:
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
            assert resident_bytes(follower.view) <= budget.size
        documents, tokens = collection.totals()
        assert resident_bytes(follower.view) <= needed_bytes(SPEC, documents, tokens)
        largest = budget.segment_bytes + 20 * SPEC.codec.bytes_per_token(DIM)
        assert all(part.segment.codes.nbytes <= largest for part in follower.view.segments)
