"""The recall monitor: a sample of the approximate searches is repeated exactly, and the difference is counted.

It happens after the answers, one search at a time; a search that comes while four are waiting is not sampled. Two
counters by collection and k come of it, RECALL_FOUND and RECALL_EXPECTED of the table of metrics, and their quotient is
recall@k, over any span of time that a monitor picks.

k is the largest of 1, 10, 100 and 1000 that the search asked for.
"""

from __future__ import annotations

import queue
import random
from contextlib import suppress
from typing import NamedTuple

import torch

from tridex.index import Ranking, Snapshot
from tridex.serving.backend.background import Background
from tridex.serving.metrics.registry import Metrics
from tridex.serving.metrics.table import RECALL_EXPECTED, RECALL_FOUND

_CUTOFFS = (1000, 100, 10, 1)
_MAX_WAITING = 4

_LONG_S = 900.0
"""More than an exact search takes."""


class _Sample(NamedTuple):
    snapshot: Snapshot
    query: torch.Tensor
    """[1, tokens, dim]"""
    mask: torch.Tensor
    """bool [1, tokens]"""
    k: int
    found: list[str]
    """Ids, k or fewer."""


class RecallMonitor:
    """Counts what approximate searches miss."""

    def __init__(self, metrics: Metrics, sample_rate: float, stream: torch.cuda.Stream | None = None) -> None:
        """`sample_rate`: the share of the searches that is repeated exactly, from 0 to 1. `stream`: the searches'."""
        self._stream = stream
        self._sample_rate = sample_rate
        self._metrics = metrics
        self._waiting: queue.Queue[_Sample] = queue.Queue(_MAX_WAITING)
        self._thread = Background("recall-monitor", "measures recall", self._measure, stuck_after_s=_LONG_S)
        self._thread.start()

    def sample(self, snapshot: Snapshot, query: torch.Tensor, mask: torch.Tensor, top_k: int, found: Ranking) -> None:
        """Samples one query's hits, at the sample rate. query: [tokens, dim]; mask: bool [tokens]."""
        if random.random() >= self._sample_rate or self._waiting.full():
            return
        k = next(cutoff for cutoff in _CUTOFFS if cutoff <= top_k)
        # Copies: the request's tensors lie in memory that the server takes back with the answer.
        sample = _Sample(snapshot, query[None].clone(), mask[None].clone(), k, found.ids[:k])
        with suppress(queue.Full):
            self._waiting.put_nowait(sample)
        self._thread.wake()

    def trouble(self) -> str | None:
        """What keeps recall from being measured, None while nothing does."""
        return self._thread.trouble()

    def close(self) -> None:
        """Measures the samples that are waiting, and ends."""
        self._thread.close()
        self._measure()

    def _measure(self) -> None:
        while not self._waiting.empty():
            sample = self._waiting.get()
            with torch.cuda.stream(self._stream):  # where the sample was copied
                (exact,) = sample.snapshot.search(sample.query, sample.mask, sample.k)
            labels = (self._metrics.collection(sample.snapshot.collection.name), str(sample.k))
            self._metrics.add(RECALL_FOUND, *labels, amount=len({*exact.ids} & {*sample.found}))
            self._metrics.add(RECALL_EXPECTED, *labels, amount=len(exact.ids))
