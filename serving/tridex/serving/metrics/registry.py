"""What one process counts, and how the launcher is told of it.

Triton server's custom metrics are not used: each count there is a message to its process (20 to 60 µs), where one here
takes half a microsecond, and a search makes a dozen.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Set
from typing import Any, NamedTuple

from .table import COLLECTION, MAX_COLLECTIONS, OTHER, SECONDS, Metric

Labels = tuple[str, ...]
"""Values, in the order of the metric's labels."""

Snapshot = dict[str, list[tuple[Labels, Any]]]
"""By the names of metrics, every series: its labels, and a number, or of a histogram the requests in each bucket and
their seconds. As JSON it takes 1 ms, where text of 900 lines by prometheus_client takes 13."""


class Gauge(NamedTuple):
    """What a gauge has now."""

    metric: Metric
    labels: Labels
    value: float


class Metrics:
    """Counts and times of this process, by the metrics of the table. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Metric, dict[Labels, float]] = {}
        self._histograms: dict[Metric, dict[Labels, tuple[list[int], list[float]]]] = {}
        self._gauges: list[Callable[[], Iterable[Gauge]]] = []
        self._collections: set[str] = set()

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Adds to a counter."""
        with self._lock:
            counts = self._counts.setdefault(metric, {})
            counts[labels] = counts.get(labels, 0.0) + amount

    def observe(self, metric: Metric, seconds: float, *labels: str) -> None:
        """Adds a time to a histogram."""
        with self._lock:
            histograms = self._histograms.setdefault(metric, {})
            if labels not in histograms:
                histograms[labels] = [0] * (len(SECONDS) + 1), [0.0]
            counts, total = histograms[labels]
            counts[bisect_left(SECONDS, seconds)] += 1
            total[0] += seconds

    def gauges(self, read: Callable[[], Iterable[Gauge]]) -> None:
        """Has `read` called whenever the metrics are read, for what gauges have then."""
        self._gauges.append(read)

    def collection(self, name: str) -> str:
        """A collection's label: its name, or `other` where there are many."""
        with self._lock:
            if name in self._collections or len(self._collections) < MAX_COLLECTIONS:
                self._collections.add(name)
                return name
            return OTHER

    def only_collections(self, names: Set[str]) -> None:
        """Gives back the labels of collections that are none of these, and forgets what was counted of them."""
        with self._lock:
            gone = self._collections - names
            if not gone:
                return
            self._collections -= gone
            for metric, counts in self._counts.items():
                if COLLECTION in metric.labels:
                    place = metric.labels.index(COLLECTION)
                    for labels in [labels for labels in counts if labels[place] in gone]:
                        del counts[labels]

    def snapshot(self) -> Snapshot:
        """Everything that was counted, and what gauges have now."""
        found: Snapshot = {}
        for read in self._gauges:
            for metric, labels, value in read():
                found.setdefault(metric.name, []).append((labels, value))
        with self._lock:
            for metric, counts in self._counts.items():
                found[metric.name] = list(counts.items())
            for metric, histograms in self._histograms.items():
                found[metric.name] = [(labels, ([*each], *total)) for labels, (each, total) in histograms.items()]
        return found
