"""What a running server tells of itself: every metric by the rules of the text format, and traces from end to end."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import kserve
import pytest
from eventually import eventually
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_collector import Collector
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


@dataclass(frozen=True)
class Caller:
    """A span of somebody who traces."""

    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def headers(self) -> dict[str, str]:
        """As https://www.w3.org/TR/trace-context says, sampled."""
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-01"}


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


def test_a_collector_that_is_down_costs_one_warning(client: Client, server: TritonServer, collector: str) -> None:
    """Nothing listens there, then something that refuses all, then one that takes spans: of every model that sends."""
    url = f"{collector}/v1/traces"
    lost, again = f"traces cannot be sent to {url}; requests are served", f"traces can be sent again to {url}"
    document: dict[str, kserve.Inputs] = {
        "search": {"QUERY": [["which number?"]]},
        "catalog": {"IDS": [["t"]]},
        "ingest": {"ID": [["t"]], "TEXT": [["which number?"]]},
    }
    client.upsert("traced", [Document("t", "which number?")])

    def said() -> tuple[int, int]:
        log = server.log.read_text()
        return log.count(lost), log.count(again)

    with kserve.channel(server.address) as channel:

        def ask() -> None:
            for model, inputs in document.items():
                operation = {"catalog": "get", "ingest": "upsert"}.get(model, "")
                request = kserve.request(model, inputs, collection="traced", operation=operation)
                assert kserve.infer(channel, request, headers=Caller().headers).status == "OK"

        def sent(collected: Collector, times: int) -> bool:
            ask()
            return all(collected.exports[model] >= times for model in document)

        ask()
        eventually(lambda: said() == (1, 0), within_s=60)
        with Collector(collector, HTTPStatus.BAD_REQUEST) as refusing:
            # Who sends again has been told that the one before was refused.
            eventually(lambda: sent(refusing, 2), within_s=60)
        assert said() == (1, 0)
        with Collector(collector) as taking:
            eventually(lambda: sent(taking, 2), within_s=60)
            eventually(lambda: said()[1], within_s=60)
        assert said() == (1, 1)


def test_a_hybrid_search_is_a_span_below_its_callers_with_bm25_below_it(
    client: Client, server: TritonServer, collector: str
) -> None:
    client.upsert("traced", [Document("t", "which number?")])
    caller = Caller()
    request = kserve.request("search", {"QUERY": [["which number?"]]}, collection="traced", mode="hybrid")
    with Collector(collector) as collected, kserve.channel(server.address) as channel:
        assert kserve.infer(channel, request, headers=caller.headers).status == "OK"

        def spans() -> list[Span]:
            return [span for span in collected.spans if span.trace_id.hex() == caller.trace_id]

        eventually(lambda: [span for span in spans() if span.kind == Span.SPAN_KIND_SERVER], within_s=60)
    (search,) = [span for span in spans() if span.parent_span_id.hex() == caller.span_id]
    assert (search.name, search.kind) == ("search traced", Span.SPAN_KIND_SERVER)
    assert {attribute.key: attribute.value.string_value for attribute in search.attributes}["tridex.mode"] == "hybrid"
    stages = [span for span in spans() if span is not search]
    assert {stage.parent_span_id for stage in stages} == {search.span_id}
    assert {stage.name for stage in stages} == {"wait", "tokenise", "encode", "score", "bm25", "fetch", "answer"}
    for stage in stages:
        assert search.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= search.end_time_unix_nano


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
