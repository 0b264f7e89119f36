"""Candidate search and rescoring on the device: what they find, and that they wait only for what they have to know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tridex.index import CollectionSpec, Document, Extra, Follower, Store
from tridex.kernels import Codec

DIM = 32
DOCUMENTS = 3000


@contextmanager
def without_waiting(device: torch.device) -> Iterator[None]:
    """torch fails whatever would wait for the device: blocking copies, and sizes that only the device knows. The wait
    for an event is none of these."""
    if device.type == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nothing_waits_by_the_way(device: torch.device, tmp_path: Path) -> None:
    """Candidate search waits for the lengths of its lists, by an event, and rescoring for nothing."""
    rng = np.random.default_rng(0)
    documents = [rng.standard_normal((n, DIM), np.float32) for n in rng.integers(1, 7, DOCUMENTS)]
    collection = Store(tmp_path).create("c", CollectionSpec(DIM, Codec.FLOAT16, "f" * 64))
    keys = [f"{i:05}" for i in range(DOCUMENTS)]
    collection.upsert([Document(key, "", {}) for key in keys], documents)
    follower = Follower(Store(tmp_path), "c", device)
    snapshot = follower.snapshot
    queries = torch.from_numpy(rng.standard_normal((4, 6, DIM), np.float32)).to(device)
    mask = (torch.arange(6) < torch.tensor([[6], [1], [3], [5]])).to(device)
    snapshot.search_candidates(queries, mask, 10, 1, 100)
    follower.make(Extra.INVERTED_LISTS)
    lists = snapshot.segments[0].inverted.lists
    assert lists is not None
    everything = len(lists.centroids)
    given = [keys[:1000], keys[:1], ["nowhere"], keys[5:50]]
    for _ in range(2):  # the first time, kernels are compiled and memory is taken
        exact = snapshot.search(queries, mask, 10)
        found = snapshot.search_candidates(queries, mask, 10, everything, DOCUMENTS - 1)
        rescored = snapshot.rescore(queries, mask, given)
    assert [one.ids for one in found] == [one.ids for one in exact]
    assert [len(one.ids) for one in rescored] == [1000, 1, 0, 45]
    with without_waiting(device):
        searches = [
            snapshot.start_candidate_search(queries, mask, 10, 1, 100),
            snapshot.start_rescoring(queries, mask, given),
        ]
    few, again = (search.wait() for search in searches)
    assert all(len(one.ids) == 10 for one in few)
    assert [one.ids for one in again] == [one.ids for one in rescored]
