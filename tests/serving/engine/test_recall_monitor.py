"""The recall monitor counts what approximate search misses, and never delays a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tridex.index import CollectionSpec, Document, Follower, Snapshot, Store
from tridex.kernels import Codec
from tridex.serving.engine.recall_monitor import RecallMonitor
from tridex.serving.metrics.registry import Metrics
from tridex.serving.metrics.table import RECALL_EXPECTED, RECALL_FOUND

QUERY, MASK = torch.ones((2, 4)), torch.ones(2, dtype=torch.bool)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    store = Store(tmp_path)
    rng = np.random.default_rng(0)
    embeddings = [rng.normal(size=(2, 4)).astype(np.float32) for _ in range(50)]
    documents = [Document(f"{i}", "", {}) for i in range(50)]
    store.create("c", CollectionSpec(4, Codec.FLOAT32, "f" * 64)).upsert(documents, embeddings)
    return Follower(store, "c", torch.device("cpu")).snapshot


def amounts(metrics: Metrics, k: int) -> list[float]:
    found = metrics.snapshot()
    return [dict(found.get(one.name, [])).get(("c", str(k)), 0) for one in (RECALL_FOUND, RECALL_EXPECTED)]


def test_hits_that_were_missed_are_counted(snapshot: Snapshot) -> None:
    metrics = Metrics()
    monitor = RecallMonitor(metrics, sample_rate=1)
    (exact,) = snapshot.search(QUERY[None], MASK[None], 50)
    monitor.sample(snapshot, QUERY, MASK, 12, exact.first(12))
    monitor.sample(snapshot, QUERY, MASK, 9, exact.first(9))
    monitor.sample(snapshot, QUERY, MASK, 10, snapshot.rescore(QUERY[None], MASK[None], [exact.ids[7:17]])[0])
    monitor.sample(snapshot, QUERY, MASK, 100, exact)
    monitor.close()
    assert (amounts(metrics, 10), amounts(metrics, 1), amounts(metrics, 100)) == ([13, 20], [1, 1], [50, 50])


@pytest.mark.parametrize("sample_rate", [0, 1])
def test_a_burst_is_sampled_without_waiting(snapshot: Snapshot, sample_rate: float) -> None:
    metrics = Metrics()
    monitor = RecallMonitor(metrics, sample_rate)
    (exact,) = snapshot.search(QUERY[None], MASK[None], 10)
    for _ in range(2000):
        monitor.sample(snapshot, QUERY, MASK, 10, exact)
    monitor.close()
    found, expected = amounts(metrics, 10)
    assert found == expected and (10 <= expected <= 20_000 if sample_rate else expected == 0)
