"""Reads the metrics of a server."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tridex.serving.server import TritonServer

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(server: TritonServer) -> tuple[str, Series]:
    """The text, and every series by its name and labels, of which none is there twice."""
    with urllib.request.urlopen(f"http://{server.host}:{server.ports['metrics']}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    series = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(series) == len(samples)
    return text, series
