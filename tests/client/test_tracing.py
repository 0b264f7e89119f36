"""Spans of the client: nothing where nobody traces, the conventions' attributes where somebody does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from openinference.semconv.trace import DocumentAttributes as Of
from openinference.semconv.trace import EmbeddingAttributes as Embedding
from openinference.semconv.trace import OpenInferenceMimeTypeValues as MimeType
from openinference.semconv.trace import OpenInferenceSpanKindValues as Kind
from openinference.semconv.trace import RerankerAttributes as Reranker
from openinference.semconv.trace import SpanAttributes as Span
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tridex.client import calls
from tridex.client.errors import NotFound
from tridex.client.results import Hit, RerankResult, SearchResult
from tridex.client.tracing import RequestSpan
from tridex.client.wire import Call
from tridex.protocol import models
from tridex.protocol.tensors import Ensemble

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


def recorded(spans: InMemorySpanExporter, call: Call[Any], result: object) -> dict[str, Any]:
    """The attributes of the call's span that are OpenInference's."""
    with RequestSpan(call, {}) as span:
        span.answered(result)
    (finished,) = spans.get_finished_spans()
    return {
        name: value for name, value in (finished.attributes or {}).items() if not name.startswith(("db.", "tridex."))
    }


def documents(name: str, *several: dict[str, object]) -> dict[str, object]:
    """A list of OpenInference's: by its name, and by the names of what each element has."""
    return {f"{name}.{i}.{field}": value for i, own in enumerate(several) for field, value in own.items()}


@pytest.fixture
def with_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")


@pytest.mark.usefixtures("with_content")
def test_a_retrieval_has_the_names_of_openinference(spans: InMemorySpanExporter) -> None:
    assert recorded(spans, calls.search("docs", [b"a query"], OPTIONS), RESULT) == {
        Span.OPENINFERENCE_SPAN_KIND: Kind.RETRIEVER.value,
        Span.INPUT_VALUE: "a query",
        **documents(
            Span.RETRIEVAL_DOCUMENTS,
            {
                Of.DOCUMENT_ID: "a",
                Of.DOCUMENT_SCORE: 2.5,
                Of.DOCUMENT_CONTENT: "a text",
                Of.DOCUMENT_METADATA: '{"year": 2026}',
            },
        ),
    }


@pytest.mark.usefixtures("with_content")
def test_several_queries_are_one_input(spans: InMemorySpanExporter) -> None:
    assert recorded(spans, calls.search("docs", [b"one", b"two"], OPTIONS), 2 * RESULT) == {
        Span.OPENINFERENCE_SPAN_KIND: Kind.RETRIEVER.value,
        Span.INPUT_VALUE: '["one", "two"]',
        Span.INPUT_MIME_TYPE: MimeType.JSON.value,
    }


@pytest.mark.usefixtures("with_content")
def test_a_reranking_has_the_names_of_openinference(spans: InMemorySpanExporter) -> None:
    scored = [RerankResult(0, 1.5), RerankResult(1, 2.5)]
    worse, better = (
        {Of.DOCUMENT_ID: "0", Of.DOCUMENT_CONTENT: "worse"},
        {Of.DOCUMENT_ID: "1", Of.DOCUMENT_CONTENT: "better"},
    )
    assert recorded(spans, calls.rerank(b"a query", [b"worse", b"better"]), scored) == {
        Span.OPENINFERENCE_SPAN_KIND: Kind.RERANKER.value,
        Span.INPUT_VALUE: "a query",
        Reranker.RERANKER_QUERY: "a query",
        **documents(Reranker.RERANKER_INPUT_DOCUMENTS, worse, better),
        **documents(
            Reranker.RERANKER_OUTPUT_DOCUMENTS, {**better, Of.DOCUMENT_SCORE: 2.5}, {**worse, Of.DOCUMENT_SCORE: 1.5}
        ),
    }


@pytest.mark.usefixtures("with_content")
@pytest.mark.parametrize("model", [models.ENCODE_QUERY, models.ENCODE_DOCUMENT], ids=lambda model: model.name)
def test_an_embedding_has_the_names_of_openinference(spans: InMemorySpanExporter, model: Ensemble) -> None:
    texts = [{Embedding.EMBEDDING_TEXT: "one"}, {Embedding.EMBEDDING_TEXT: "two"}]
    assert recorded(spans, calls.encode(model, [b"one", b"two"]), [np.ones((1, 2))] * 2) == {
        Span.OPENINFERENCE_SPAN_KIND: Kind.EMBEDDING.value,
        **documents(Span.EMBEDDING_EMBEDDINGS, *texts),
    }


def test_no_text_is_recorded_where_nobody_asks_for_it(spans: InMemorySpanExporter) -> None:
    assert recorded(spans, calls.rerank(b"a query", [b"a text"]), [RerankResult(0, 1.5)]) == {
        Span.OPENINFERENCE_SPAN_KIND: Kind.RERANKER.value,
        **documents(Reranker.RERANKER_OUTPUT_DOCUMENTS, {Of.DOCUMENT_ID: "0", Of.DOCUMENT_SCORE: 1.5}),
    }


@pytest.mark.usefixtures("with_content")
@pytest.mark.parametrize("kind", [Kind.RETRIEVER, Kind.RERANKER, Kind.EMBEDDING], ids=lambda kind: kind.name)
def test_a_long_list_keeps_its_best_and_what_the_span_is(spans: InMemorySpanExporter, kind: Kind) -> None:
    texts = [f"text {i}".encode() for i in range(200)]
    call, result, name = {
        Kind.RETRIEVER: (
            calls.search("docs", [b"a query"], OPTIONS),
            [SearchResult(tuple(Hit(f"{i}", 200.0 - i, "a text", {}) for i in range(200)), 7)],
            f"{Span.RETRIEVAL_DOCUMENTS}.0.{Of.DOCUMENT_ID}",
        ),
        Kind.RERANKER: (
            calls.rerank(b"a query", texts),
            [RerankResult(i, 200.0 - i) for i in range(200)],
            f"{Reranker.RERANKER_OUTPUT_DOCUMENTS}.0.{Of.DOCUMENT_ID}",
        ),
        Kind.EMBEDDING: (
            calls.encode(models.ENCODE_DOCUMENT, texts),
            [np.ones((1, 2))] * 200,
            f"{Span.EMBEDDING_EMBEDDINGS}.0.{Embedding.EMBEDDING_TEXT}",
        ),
    }[kind]
    with RequestSpan(call, {}) as span:
        span.answered(result)
    (finished,) = spans.get_finished_spans()
    assert finished.dropped_attributes == 0
    attributes = finished.attributes or {}
    assert attributes[Span.OPENINFERENCE_SPAN_KIND] == kind.value
    assert attributes[name] in ("0", "text 0")
    assert len(attributes) > 60, "no more is left out than has to be"


@pytest.mark.parametrize(
    ("call", "name", "mode"),
    [
        (calls.rerank(b"a query", [b"a text"]), "rerank_texts", None),
        (calls.search("docs", [b"a query"], {**OPTIONS, "exact": False}), "search docs", "approximate_maxsim"),
        (calls.search("docs", [b"a query"], {**OPTIONS, "mode": "hybrid"}), "search docs", "hybrid"),
    ],
)
def test_a_request_is_called_as_in_metrics_and_the_servers_spans(
    spans: InMemorySpanExporter, call: Call[Any], name: str, mode: str | None
) -> None:
    with RequestSpan(call, {}):
        pass
    (finished,) = spans.get_finished_spans()
    assert finished.name == name
    assert (finished.attributes or {}).get("tridex.mode") == mode


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
