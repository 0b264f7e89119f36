"""The metrics of several processes as one text in Prometheus' format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from .registry import Labels, Snapshot
from .table import METRICS, SECONDS, Kind

_BOUNDS = [*map(str, SECONDS), "+Inf"]


class _Families(Collector):
    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            series = _joined(one for snapshot in self._snapshots for one in snapshot.get(metric.name, []))
            if not series and metric.kind is Kind.COUNTER and not metric.labels:
                series = [((), 0)]  # so that the first count is an increase
            if not series:
                continue
            if metric.kind is Kind.HISTOGRAM:
                times = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, (counts, seconds) in series:
                    buckets = zip(_BOUNDS, map(float, accumulate(counts)), strict=True)
                    times.add_metric(labels, list(buckets), seconds)
                yield times
                continue
            family = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            values = family(metric.name, metric.help, labels=metric.labels)
            for labels, value in series:
                values.add_metric(labels, value)
            yield values


def _joined(series: Iterable[tuple[Labels, Any]]) -> list[tuple[Labels, Any]]:
    """Each series once: what several processes have counted is added up."""
    joined: dict[Labels, Any] = {}
    for labels, value in series:
        key = tuple(labels)
        joined[key] = _sum(joined[key], value) if key in joined else value
    return list(joined.items())


def _sum(one: Any, other: Any) -> Any:
    """Of two numbers, or of two histograms' counts and seconds."""
    if isinstance(one, int | float):
        return one + other
    (counts, seconds), (more_counts, more_seconds) = one, other
    return [a + b for a, b in zip(counts, more_counts, strict=True)], seconds + more_seconds


def exposition(snapshots: Sequence[Snapshot]) -> bytes:
    """The text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(snapshots))
    return bytes(generate_latest(registry))
