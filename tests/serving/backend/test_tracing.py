"""Spans of requests: the caller's trace goes on, who is not sampled has none, an endpoint that is down is said once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tridex.serving.backend.service import ErrorCode, RequestError, Sender
from tridex.serving.backend.trace_context import TraceContext, parse_traceparent
from tridex.serving.backend.tracing import OneWarning, Tracer
from tridex.serving.metrics.table import Stage

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traceparent_says_trace_span_and_whether_it_is_sampled() -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-01") == TraceContext(TRACE, SPAN, True)
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-00") == TraceContext(TRACE, SPAN, False)
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-03-what-comes-later") == TraceContext(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "header",
    [
        None,
        7,
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_a_malformed_traceparent_is_none(header: object) -> None:
    assert parse_traceparent(header) is None


def recorded(sample_rate: float, *senders: Sender, error: RequestError | None = None) -> Sequence[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracer = Tracer("http://127.0.0.1:9", sample_rate, "search", None)
    tracer._provider.add_span_processor(SimpleSpanProcessor(exporter))
    for sender in senders:
        tracer.record(sender, sender.arrived_at + 0.5, error)
    return exporter.get_finished_spans()


def search(trace: TraceContext | None) -> Sender:
    sender = Sender(trace=trace)
    sender.timeline.is_about("search", "maxsim", collection="docs", top_k=3)
    sender.timeline.add(Stage.ENCODE, sender.arrived_at + 0.125, sender.arrived_at + 0.25)
    return sender


def test_a_request_is_a_span_below_the_callers_and_its_stages_below_it() -> None:
    wait, encode, request = recorded(0.0, search(TraceContext(TRACE, SPAN, True)))
    assert [span.name for span in (wait, encode, request)] == ["wait", "encode", "search docs"]
    assert request.parent is not None and f"{request.parent.span_id:016x}" == SPAN
    assert {f"{span.context.trace_id:032x}" for span in (wait, encode, request)} == {TRACE}
    assert {span.parent and span.parent.span_id for span in (wait, encode)} == {request.context.span_id}
    assert request.kind is SpanKind.SERVER
    assert dict(request.attributes or {}) == {
        "db.system.name": "tridex",
        "db.operation.name": "search",
        "db.collection.name": "docs",
        "tridex.mode": "maxsim",
        "tridex.top_k": 3,
    }
    assert request.start_time and request.end_time and encode.start_time and encode.end_time
    assert (request.end_time - request.start_time) / 1e9 == pytest.approx(0.5, abs=1e-3)
    assert (encode.start_time - request.start_time) / 1e9 == pytest.approx(0.125, abs=1e-3)
    assert (encode.end_time - encode.start_time) / 1e9 == pytest.approx(0.125, abs=1e-3)


def test_callers_decide_for_theirs_and_the_rate_for_the_others() -> None:
    assert recorded(1.0, search(TraceContext(TRACE, SPAN, False))) == ()
    assert recorded(0.0, search(None)) == ()
    *_, request = recorded(1.0, search(None))
    assert request.parent is None


def test_refusals_are_named_and_faults_are_errors() -> None:
    *_, refused = recorded(1.0, search(None), error=RequestError(ErrorCode.NOT_FOUND, "collection 'docs'"))
    assert (refused.attributes or {})["error.type"] == "NOT_FOUND" and refused.status.is_unset
    *_, failed = recorded(1.0, search(None), error=RequestError(ErrorCode.INTERNAL, "internal error"))
    assert not failed.status.is_ok


@pytest.mark.parametrize("at_once", [False, True])
def test_spans_that_cannot_be_sent_are_one_warning_for_all_processes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    if at_once:  # each has looked before another says it
        monkeypatch.setattr(Path, "exists", lambda _: True)
    results = [SpanExportResult.FAILURE]

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            assert not spans
            return results[0]

    processes = [OneWarning(Exporter(), "http://collector:4318/v1/traces", tmp_path) for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        for process in 2 * processes:
            process.export([])
        assert [record.message.partition(";")[0] for record in caplog.records] == [
            "traces cannot be sent to http://collector:4318/v1/traces"
        ]
        results[0] = SpanExportResult.SUCCESS
        for process in 2 * processes:
            process.export([])
    assert [record.message for record in caplog.records[1:]] == [
        "traces can be sent again to http://collector:4318/v1/traces"
    ]
