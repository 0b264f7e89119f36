"""What one process counts, and its text for the launcher to join.

Triton server's custom metrics are not used: each count there is a message to its process (30 µs, measured), where one
here takes 1 µs, and a search makes eight.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from .table import MAX_COLLECTIONS, OTHER, SECONDS, Metric

Labels = tuple[str, ...]
"""Values, in the order of the metric's labels."""


class Gauge(NamedTuple):
    """What a gauge has now."""

    metric: Metric
    labels: Labels
    value: float


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.seconds = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds with how many are below each."""
        bounds = [*map(str, SECONDS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class Metrics(Collector):
    """Counts and times of this process, by the metrics of the table. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Metric, dict[Labels, float]] = {}
        self._histograms: dict[Metric, dict[Labels, _Histogram]] = {}
        self._gauges: list[Callable[[], Iterable[Gauge]]] = []
        self._collections: set[str] = set()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

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
                histograms[labels] = _Histogram()
            histogram = histograms[labels]
            histogram.counts[bisect_left(SECONDS, seconds)] += 1
            histogram.seconds += seconds

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

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return bytes(generate_latest(self._registry))

    def collect(self) -> Iterator[Family]:
        """The families that have values."""
        gauges: dict[Metric, dict[Labels, float]] = {}
        for read in self._gauges:
            for metric, labels, value in read():
                gauges.setdefault(metric, {})[labels] = value
        families: dict[Metric, Family] = {}
        for metric, values in gauges.items():
            families[metric] = gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in values.items():
                gauge.add_metric(labels, value)
        with self._lock:
            for metric, values in self._counts.items():
                families[metric] = counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, value in values.items():
                    counter.add_metric(labels, value)
            for metric, histograms in self._histograms.items():
                families[metric] = family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, histogram in histograms.items():
                    family.add_metric(labels, histogram.buckets(), histogram.seconds)
        yield from families.values()
