"""Where the time of searches and encodings goes, as counters on the server's metrics endpoint.

By `lane` (search, encode) and `stage`; a request's stages together are its time in this process:

    wait      what is none of the others: the turns of other requests
    tokenise  making the tokens of the units of work that the request has texts in
    encode    the encoder's work on them
    score     MaxSim and BM25, and reading the hits' texts
    answer    handing the answers over to Triton server

    tridex_search_stage_seconds_total   what requests have spent there; each of a batch has spent the time of the batch
    tridex_search_stage_requests_total  how many they were
    tridex_search_stage_batches_total   in how many batches

Requests that are refused on arrival or whose senders leave are not counted, nor is the time that a search waits for a
version of its collection.
"""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .background import Background
from .scheduler import Task
from .service import Metrics

STAGES = ("wait", "tokenise", "encode", "score", "answer")

_PREFIX = "tridex_search_stage_"
# In the order in which they are reported: a reader that sees a request counted sees its seconds, too.
_QUANTITIES = {
    "seconds": "Time that requests have spent in a stage, in seconds",
    "requests": "Requests that went through a stage",
    "batches": "Batches in which requests went through a stage",
}
_REPORT_S = 0.2


class StageTimes:
    """Adds up what requests spend in each stage.

    A thread reports to the server: it takes 20 to 60 µs for each of the fifteen counters that a search adds to.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._counters = {
            quantity: metrics.counter(f"{_PREFIX}{quantity}_total", text) for quantity, text in _QUANTITIES.items()
        }
        self._amounts: dict[tuple[str, str, str], float] = defaultdict(float)
        self._lock = threading.Lock()
        self._thread = Background("stage-times", "reports the times of stages", self._report)
        self._thread.start()

    def add(self, lane: str, tasks: Sequence[Task[Any]], began: float, scored: float) -> None:
        """Tasks that were scored together from `began` to `scored`, and handed over since; by time.monotonic."""
        answer_s = time.monotonic() - scored
        encoded = [task for task in tasks if task.units]
        units = sum(task.units for task in encoded)
        # A request that joins a unit while it is being filled did not wait for the tokenising before it. A counter may
        # not be given less than 0: once it was, the model's process crashed in Triton server's code.
        wait_s = sum(
            max(0.0, began - task.request.sender.arrived_at - task.tokenising_s - task.encoding_s) for task in tasks
        )
        together = len(tasks)
        with self._lock:
            self._add(lane, "wait", wait_s, together, 0)
            self._add(lane, "tokenise", sum(task.tokenising_s for task in encoded), len(encoded), units)
            self._add(lane, "encode", sum(task.encoding_s for task in encoded), len(encoded), units)
            self._add(lane, "score", (scored - began) * together, together, 1)
            self._add(lane, "answer", answer_s * together, together, 1)

    def close(self) -> None:
        """Reports the rest."""
        self._thread.close()
        self._report()

    def _add(self, lane: str, stage: str, seconds: float, requests: int, batches: float) -> None:
        for quantity, amount in zip(_QUANTITIES, (seconds, requests, batches), strict=True):
            self._amounts[lane, stage, quantity] += amount

    def _report(self) -> float:
        """Reports what was added since the last time; the seconds until the next."""
        with self._lock:
            amounts, self._amounts = self._amounts, defaultdict(float)
        for (lane, stage, quantity), amount in amounts.items():
            self._counters[quantity]({"lane": lane, "stage": stage}, amount)
        return _REPORT_S


@dataclass(frozen=True)
class StageTotal:
    """What a stage has done, all in all or for a while."""

    seconds: float = 0.0
    requests: float = 0.0
    batches: float = 0.0

    def since(self, before: StageTotal) -> StageTotal:
        """What it has done since then."""
        return StageTotal(self.seconds - before.seconds, self.requests - before.requests, self.batches - before.batches)


def read_stages(metrics_url: str, lane: str) -> dict[str, StageTotal]:
    """Each stage of a lane. Raises OSError where no server answers."""
    with urllib.request.urlopen(metrics_url, timeout=10) as answer:
        text = answer.read().decode()
    series = re.compile(rf'^{_PREFIX}(\w+)_total{{lane="{lane}",stage="(\w+)"}} (\S+)$', re.MULTILINE)
    stages: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    for quantity, stage, amount in series.findall(text):
        stages[stage][quantity] = float(amount)
    return {stage: StageTotal(**amounts) for stage, amounts in stages.items()}
