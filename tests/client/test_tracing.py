"""Spans of the client: nothing where nobody traces, the conventions' attributes where somebody does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tridex.client import calls
from tridex.client.errors import NotFound
from tridex.client.results import Hit, SearchResult
from tridex.client.tracing import RequestSpan

OPTIONS = {"top_k": 3, "with_text": True, "with_metadata": True}
RESULT = [SearchResult((Hit("a", 2.5, "a text", {"year": 2026}),), 7)]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def test_a_search_is_a_retrieval_whose_context_is_sent(spans: InMemorySpanExporter) -> None:
    with RequestSpan(calls.search("docs", [b"a query"], OPTIONS), {"x-mine": "1"}) as span:
        assert span.answered(RESULT) is RESULT
    (finished,) = spans.get_finished_spans()
    context = finished.context
    assert span.headers["x-mine"] == "1"
    sent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    assert span.headers["traceparent"] == sent
    assert (finished.name, finished.kind) == ("search docs", SpanKind.CLIENT)
    assert dict(finished.attributes or {}) == {
        "db.system.name": "tridex",
        "db.operation.name": "search",
        "db.collection.name": "docs",
        "openinference.span.kind": "RETRIEVER",
        "tridex.mode": "maxsim",
        "tridex.top_k": 3,
        "retrieval.documents.0.document.id": "a",
        "retrieval.documents.0.document.score": 2.5,
    }


def test_content_is_recorded_where_it_is_asked_for(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    with RequestSpan(calls.search("docs", [b"a query"], OPTIONS), {}) as span:
        span.answered(RESULT)
    attributes = dict(spans.get_finished_spans()[0].attributes or {})
    assert attributes["input.value"] == "a query"
    assert attributes["retrieval.documents.0.document.content"] == "a text"
    assert attributes["retrieval.documents.0.document.metadata"] == '{"year": 2026}'


def test_an_error_is_named(spans: InMemorySpanExporter) -> None:
    with pytest.raises(NotFound), RequestSpan(calls.count("docs", None), {}):
        raise NotFound("collection 'docs' does not exist")
    (finished,) = spans.get_finished_spans()
    assert finished.name == "count docs"
    assert (finished.attributes or {})["error.type"] == "NotFound" and not finished.status.is_ok


def test_health_checks_have_no_span(spans: InMemorySpanExporter) -> None:
    with RequestSpan(calls.is_ready(), {}) as span:
        span.answered(True)
    assert spans.get_finished_spans() == ()


def test_nothing_is_imported_where_nobody_traces() -> None:
    program = (
        "import sys; from tridex.client import calls, tracing\n"
        "given = {}\n"
        "with tracing.RequestSpan(calls.is_ready(), given) as span: assert span.headers is given\n"
        "with tracing.RequestSpan(calls.count('c', None), given) as span: assert span.headers is given\n"
        "assert not any(name.partition('.')[0] == 'opentelemetry' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
