"""The recall certificate counts what candidate search misses, and never holds anybody up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from counts import Counts

from tridex.index import CollectionSpec, Document, Follower, Snapshot, Store
from tridex.kernels import Codec
from tridex.serving.collections.recall_monitor import EXPECTED, FOUND, RecallMonitor

QUERY, MASK = torch.ones((2, 4)), torch.ones(2, dtype=torch.bool)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    store = Store(tmp_path)
    rng = np.random.default_rng(0)
    embeddings = [rng.normal(size=(2, 4)).astype(np.float32) for _ in range(50)]
    documents = [Document(f"{i}", "", {}) for i in range(50)]
    store.create("c", CollectionSpec(4, Codec.FLOAT32, "f" * 64)).upsert(documents, embeddings)
    return Follower(store, "c", torch.device("cpu")).snapshot


def amounts(counts: Counts, k: int) -> list[float]:
    labels = frozenset({("collection", "c"), ("k", str(k))})
    return [counts.amounts.get((name, labels), 0) for name in (FOUND, EXPECTED)]


def test_hits_that_were_missed_are_counted(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIDEX_RECALL_SAMPLE_RATE", "1")
    counts = Counts()
    certificate = RecallMonitor(counts)
    (exact,) = snapshot.search(QUERY[None], MASK[None], 50)
    certificate.sample(snapshot, QUERY, MASK, 12, exact.first(12))
    certificate.sample(snapshot, QUERY, MASK, 9, exact.first(9))
    certificate.sample(snapshot, QUERY, MASK, 10, snapshot.rescore(QUERY, MASK, exact.ids[7:17]))
    certificate.sample(snapshot, QUERY, MASK, 100, exact)
    certificate.close()
    assert (amounts(counts, 10), amounts(counts, 1), amounts(counts, 100)) == ([13, 20], [1, 1], [50, 50])


@pytest.mark.parametrize("share", ["0", "1"])
def test_a_burst_is_sampled_without_waiting(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, share: str) -> None:
    monkeypatch.setenv("TRIDEX_RECALL_SAMPLE_RATE", share)
    counts = Counts()
    certificate = RecallMonitor(counts)
    (exact,) = snapshot.search(QUERY[None], MASK[None], 10)
    for _ in range(2000):
        certificate.sample(snapshot, QUERY, MASK, 10, exact)
    certificate.close()
    found, expected = amounts(counts, 10)
    assert found == expected and (10 <= expected <= 20_000 if share == "1" else expected == 0)


@pytest.mark.parametrize("share", ["half", "-0.1", "nan", "2"])
def test_a_bad_share_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, share: str) -> None:
    monkeypatch.setenv("TRIDEX_RECALL_SAMPLE_RATE", share)
    with pytest.raises(ValueError, match=f"TRIDEX_RECALL_SAMPLE_RATE is '{share}'; expected a number from 0 to 1"):
        RecallMonitor(Counts())
