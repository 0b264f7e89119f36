"""What a running server tells of itself: every metric by the rules of the text format, and traces from end to end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from eventually import eventually
from scraping import scrape

from tridex.client import Client, Document, NotFound
from tridex.serving.metrics.table import (
    COMPACTIONS,
    DOCUMENTS,
    LOAD_FAILURES,
    MAINTENANCE_FAILURES,
    METRICS,
    RECALL_EXPECTED,
    RECALL_FOUND,
    REQUESTS,
)
from tridex.serving.server import TritonServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "tracing.py"

EVENTS = {COMPACTIONS.name, LOAD_FAILURES.name, MAINTENANCE_FAILURES.name, RECALL_EXPECTED.name, RECALL_FOUND.name}
"""Counters that are there once something has happened."""


def test_every_metric_of_the_table_is_there_and_none_beside(client: Client, server: TritonServer) -> None:
    client.upsert("watched", [Document(str(i), f"metric number {i}") for i in range(3)])
    client.search("watched", "which number?")
    with pytest.raises(NotFound):
        client.search("not-there", "which number?")
    missing = frozenset({("operation", "search"), ("code", "NOT_FOUND")})
    counted = frozenset({("collection", "watched")})
    # Models write what they have counted once a second.
    eventually(lambda: {(REQUESTS.name, missing), (DOCUMENTS.name, counted)} <= scrape(server)[1].keys(), within_s=60)
    text, series = scrape(server)
    types = dict(re.findall(r"^# TYPE (tridex_\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (tridex_\S+) (.+)$", text, re.MULTILINE))
    table = {metric.name: metric for metric in METRICS}
    assert table.keys() - EVENTS <= types.keys() <= table.keys()
    assert types == {name: table[name].kind.value for name in types}
    assert helps == {name: table[name].help for name in types}
    for (name, labels), _ in series.items():
        family = re.sub("_(bucket|sum|count)$", "", name)
        if family in table:
            assert {label for label, _ in labels} - {"le"} == set(table[family].labels)
    assert series[DOCUMENTS.name, counted] == 3 and series[REQUESTS.name, missing] >= 1
    assert any(name == "nv_inference_request_summary_us" for name, _ in series), "Triton server's own are beside them"


def test_one_trace_goes_from_a_chain_to_the_kernel(server: TritonServer, collector: str) -> None:
    """The example, whose collector takes the place of the one that was down until now."""
    assert len(EXAMPLE.read_text().splitlines()) < 60
    port = collector.rpartition(":")[2]
    command = [sys.executable, "-m", "examples.tracing", server.address, port]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    names = re.sub(r": [0-9.]+ ms$", "", printed, flags=re.MULTILINE).splitlines()
    assert names[:3] == ["chain", "  search tracing", "    search tracing"]
    assert {name.strip() for name in names[3:]} == {"wait", "tokenise", "encode", "score", "fetch", "answer"}
    assert all(name.startswith(6 * " ") for name in names[3:])
