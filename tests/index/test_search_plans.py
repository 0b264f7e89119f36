"""Captured searches: what a replay finds, when plans are made, and when they go; with calls in place of CUDA graphs."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from captured_calls import Results, called_again

from tridex.index import (
    Collection,
    CollectionSpec,
    Document,
    Extra,
    Follower,
    MemoryBudget,
    MemoryBudgetError,
    Ranking,
    Snapshot,
    Store,
    declared_fields,
    needed_bytes,
)
from tridex.index.resident import search_plans, snapshot
from tridex.kernels import Codec, SearchPlan, pack, search_plan
from tridex.kernels.operator import search

DIM = 8
SPEC = CollectionSpec(DIM, Codec.FLOAT32, "f" * 64, declared_fields({"part": "int"}))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(search_plan, "_captured", called_again)
    monkeypatch.setattr(search_plans, "_stream_of", lambda _device: 7)
    monkeypatch.setattr(search_plans, "_WORTHWHILE", 2)
    yield


def documents(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1 + i % 4, DIM)).astype(np.float32) for i in range(count)]


def asked(batch: int, tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, tokens, DIM), generator=generator), torch.rand(
        (batch, tokens), generator=generator
    ) < 0.8


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    collection = Store(tmp_path).create("c", SPEC)
    collection.upsert([Document(f"{i:03}", "", {"part": i % 3}) for i in range(60)], documents(60))
    return collection


@pytest.fixture
def follower(collection: Collection) -> Follower:
    return Follower(Store(collection.folder.parents[1]), "c", CPU)


def plain(found: Sequence[Ranking]) -> list[tuple[list[str], list[float]]]:
    return [(ranking.ids, ranking.scores.tolist()) for ranking in found]


def planned(seen: Snapshot, *shape: int) -> bool:
    """Whether the only segment has a plan of that shape."""
    return search_plans.Shape(*shape) in seen.segments[0].plans._plans


def ask_often(follower: Follower, batch: int = 1, tokens: int = 5, top_k: int = 3) -> None:
    for _ in range(2):
        follower.snapshot.search(*asked(batch, tokens), top_k)
    follower.make(Extra.SEARCH_PLANS)


def test_a_replay_finds_what_the_search_does(
    collection: Collection, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer queries, tokens and hits than the plan has room for, filtered, and after deletes."""
    shapes = [(1, 32, 16), (3, 5, 1), (4, 32, 60), (5, 33, 16), (8, 64, 17), (2, 1, 5)]
    wanted = {"field": "part", "operator": "==", "value": 1}
    for shape in shapes:
        ask_often(follower, *shape)
    collection.delete(["001", "004", "030"])
    for seen in (follower.snapshot, follower.snapshot.filtered(wanted), follower.refresh()):
        with monkeypatch.context() as without:
            without.setattr(search_plans, "_stream_of", lambda _device: None)
            expected = [plain(seen.search(*asked(*shape[:2], seed=9), shape[2])) for shape in shapes]
        with monkeypatch.context() as replayed:
            replayed.setattr(snapshot.kernels, "search", None)
            found = [plain(seen.search(*asked(*shape[:2], seed=9), shape[2])) for shape in shapes]
        assert found == expected
    assert not {"001", "004", "030"} & {key for rankings in found for ids, _ in rankings for key in ids}


def test_a_plan_is_made_once_it_is_worth_it(follower: Follower) -> None:
    follower.snapshot.search(*asked(3, 5), 3)
    follower.make(Extra.SEARCH_PLANS)
    assert not planned(follower.snapshot, 4, 32, 16)
    follower.snapshot.search(*asked(4, 7), 16)  # of the same shape
    follower.make(Extra.SEARCH_PLANS)
    assert planned(follower.snapshot, 4, 32, 16)
    made = follower.snapshot.segments[0].plans._plans.copy()
    follower.make(Extra.SEARCH_PLANS)
    assert follower.snapshot.segments[0].plans._plans == made


@pytest.mark.parametrize("shape", [(9, 5, 3), (1, 65, 3), (1, 5, 129)])
def test_what_takes_long_anyway_has_no_plan(collection: Collection, follower: Follower, shape: Sequence[int]) -> None:
    collection.upsert([Document(f"more {i:03}", "", {"part": 0}) for i in range(200)], documents(200, 1))
    follower.refresh()
    follower.merge()
    ask_often(follower, *shape)
    assert not follower.snapshot.segments[0].plans._plans


def test_plans_go_with_their_segment_and_stay_when_its_documents_are_deleted(
    collection: Collection, follower: Follower
) -> None:
    ask_often(follower)
    plan = weakref.ref(follower.snapshot.segments[0].plans._plans[search_plans.Shape(1, 32, 16)])
    collection.delete(["000"])
    assert planned(follower.refresh(), 1, 32, 16)
    collection.upsert([Document(f"new {i}", "", {"part": 0}) for i in range(60)], documents(60, 2))
    follower.refresh()
    assert follower.merge() and len(follower.snapshot.segments) == 1
    gc.collect()
    assert plan() is None and not planned(follower.snapshot, 1, 32, 16)
    ask_often(follower)
    assert planned(follower.snapshot, 1, 32, 16)


def test_another_stream_does_not_share_the_plans_memory(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_often(follower)
    monkeypatch.setattr(search_plan.SearchPlan, "search", None)
    monkeypatch.setattr(search_plans, "_stream_of", lambda _device: 8)
    assert follower.snapshot.search(*asked(1, 5), 3)


def test_plans_take_what_is_left_of_the_budget_and_give_way_to_documents(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_plan, "_GRAPH_BYTES", 200_000)
    store = Store(tmp_path)
    other = store.create("other", SPEC)
    rows = needed_bytes(SPEC, collection.size())
    budget = MemoryBudget(int((rows + 401_000) / (1 - 1 / 8)))
    follower, beside = Follower(store, "c", CPU, budget=budget), Follower(store, "other", CPU, budget=budget)
    ask_often(follower)
    assert planned(follower.snapshot, 1, 32, 16)
    assert rows + 200_000 < budget.used == budget.taken(collection.folder) < rows + 202_000
    more = [Document(f"{i:06}", "", {"part": 0}) for i in range(2000)]
    other.upsert(more, [np.ones((1, DIM), np.float32)] * len(more))
    assert beside.refresh().count() == len(more)
    assert not planned(follower.snapshot, 1, 32, 16)
    follower.snapshot.segments[0].plans.retry_at = 0.0
    with pytest.raises(MemoryBudgetError, match=r"search plans of collection 'c' need .* its searches do without"):
        ask_often(follower)
    ask_often(follower)  # Not tried again within a minute.
    assert follower.snapshot.search(*asked(1, 5), 3)


def test_a_search_that_cannot_be_captured_goes_on_being_launched(
    follower: Follower, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    waited: list[torch.device] = []
    monkeypatch.setattr(search_plan, "_captured", fails)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    with caplog.at_level(logging.WARNING):
        ask_often(follower, 2)
        ask_often(follower)
    assert caplog.text.count("cannot be captured") == len(waited) == 1
    assert follower.snapshot.search(*asked(1, 5), 3)


def test_plans_that_had_to_go_while_they_were_made_are_not_kept(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile_dropped(*arguments: object) -> tuple[Callable[[], None], Results]:
        follower._drop(Extra.SEARCH_PLANS)
        return called_again(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search_plan, "_captured", meanwhile_dropped)
    ask_often(follower)
    assert not follower.snapshot.segments[0].plans._plans
    assert follower.snapshot.search(*asked(1, 5), 3)


def test_threads_get_their_own_answers_while_plans_come_and_go(follower: Follower) -> None:
    expected = [plain(follower.snapshot.search(*asked(1, 5, seed), 3)) for seed in range(8)]
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for _ in range(40):
            if plain(follower.snapshot.search(*asked(1, 5, seed), 3)) != expected[seed]:
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        follower.make(Extra.SEARCH_PLANS)
        follower.snapshot.segments[0].plans.drop()
    assert not wrong


def test_a_plan_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    segment = pack(documents(3), Codec.FLOAT32)
    with pytest.raises(ValueError, match="segment is on cpu; expected a CUDA device"):
        SearchPlan(segment, 1, 5, 2)
    assert search(torch.ones((1, 1, DIM)), segment, 1)
