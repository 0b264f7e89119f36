"""The metrics: one table for code and documentation, names by Prometheus' rules, labels that stay few."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tridex.serving.backend.service import ErrorCode
from tridex.serving.metrics import table
from tridex.serving.metrics.exposition import exposition
from tridex.serving.metrics.registry import Gauge, Metrics
from tridex.serving.metrics.table import (
    MAX_COLLECTIONS,
    METRICS,
    OTHER,
    READY,
    RECALL_FOUND,
    REQUEST_DURATION,
    REQUESTS,
    SECONDS,
    Kind,
    Metric,
    metrics_table,
)

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_the_docs_have_the_table_of_metrics() -> None:
    assert metrics_table() in REFERENCE.read_text()


def test_the_docs_have_every_stage_and_the_buckets() -> None:
    text = " ".join(REFERENCE.read_text().split())
    assert ", ".join(f"`{stage.value}`" for stage in table.Stage) in text
    assert ", ".join(f"{bound:g}" for bound in SECONDS) in text
    assert f"The first {MAX_COLLECTIONS} that a process has seen" in text


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_keep_to_the_rules_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"tridex(_[a-z]+)+", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")
    assert not re.search(r"_(count|sum|bucket|ms|us|milliseconds|kb|mb|gauge|counter|histogram)(_|$)", metric.name)
    for label in metric.labels:
        assert re.fullmatch(r"[a-z]+", label) and label not in {"le", "quantile", "job", "instance"}
    assert metric.help and not metric.help.endswith(".")


def test_names_are_distinct() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def value(text: bytes, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return sample.value
    return None


def test_times_are_cumulative_buckets_with_sum_and_count() -> None:
    metrics = Metrics()
    for seconds in (0.00005, SECONDS[0], 0.02, 100.0):
        metrics.observe(REQUEST_DURATION, seconds, "search")
    name, text = REQUEST_DURATION.name, exposition([metrics.snapshot()])
    buckets = [value(text, f"{name}_bucket", operation="search", le=str(bound)) for bound in SECONDS]
    assert buckets == [2.0 if bound < 0.02 else 3.0 for bound in SECONDS]
    assert value(text, f"{name}_bucket", operation="search", le="+Inf") == 4
    assert value(text, f"{name}_count", operation="search") == 4
    assert value(text, f"{name}_sum", operation="search") == pytest.approx(100.02015)


def test_the_first_collections_have_a_label_and_the_rest_are_together() -> None:
    metrics = Metrics()
    labels = [metrics.collection(f"c{i}") for i in range(MAX_COLLECTIONS + 5)]
    assert labels == [f"c{i}" for i in range(MAX_COLLECTIONS)] + 5 * [OTHER]
    assert metrics.collection("c7") == "c7"


def test_a_collection_that_is_gone_gives_its_label_back_and_its_series_end() -> None:
    metrics = Metrics()
    for number in range(3 * MAX_COLLECTIONS):
        name = metrics.collection(f"c{number}")
        assert name == f"c{number}"
        metrics.add(RECALL_FOUND, name, "10")
        metrics.only_collections({name})
    assert metrics.snapshot() == {RECALL_FOUND.name: [((name, "10"), 1.0)]}


def test_a_family_of_two_processes_is_one() -> None:
    ready = [1.0]
    first, second = Metrics(), Metrics()
    first.add(REQUESTS, "search", "OK")
    first.gauges(lambda: [Gauge(READY, (), ready[0])])
    second.add(REQUESTS, "upsert", "OK", amount=2)
    second.add(REQUESTS, 'od"d\\\n', "OK")
    ready[0] = 0.0
    text = exposition([first.snapshot(), second.snapshot()])
    assert value(text, REQUESTS.name, operation="search", code="OK") == 1
    assert value(text, REQUESTS.name, operation="upsert", code="OK") == 2
    assert value(text, REQUESTS.name, operation='od"d\\\n', code="OK") == 1
    assert value(text, READY.name) == 0
    assert text.count(b"# TYPE tridex_requests_total counter") == 1


def test_what_several_processes_count_is_one_series() -> None:
    first, second = Metrics(), Metrics()
    for metrics in (first, second):
        metrics.add(REQUESTS, "search", "OK")
        metrics.observe(REQUEST_DURATION, 0.25, "search")
    text = exposition([first.snapshot(), json.loads(json.dumps(second.snapshot()))])
    assert value(text, REQUESTS.name, operation="search", code="OK") == 2
    assert value(text, f"{REQUEST_DURATION.name}_count", operation="search") == 2
    assert value(text, f"{REQUEST_DURATION.name}_sum", operation="search") == 0.5
    assert text.count(b'code="OK"') == 1


def test_the_docs_have_every_code() -> None:
    codes = ", ".join(f"`{code.name}`" for code in ErrorCode)
    assert f"or why it failed: {codes} |" in REFERENCE.read_text()
