"""A span for each request to a served model, where the application traces with OpenTelemetry.

Nothing is imported for it where the application has not done so: who traces has imported OpenTelemetry to set it up.
The request carries the span's context to the server, which adds spans of its own below it (`--otlp-endpoint`).

Attributes are those of OpenTelemetry's database conventions, and OpenInference's of retrieval, reranking and embedding,
which Phoenix and LangSmith show: ids and scores, and, where OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for
content, queries, texts and metadata.

References:
    https://opentelemetry.io/docs/specs/semconv/database/
    https://arize-ai.github.io/openinference/spec
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tridex.client.channel import Headers
from tridex.client.results import Hit, RerankResult, SearchResult
from tridex.client.wire import Call
from tridex.protocol import labels, models, parameters

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from typing_extensions import Self

T = TypeVar("T")

_KINDS = {
    models.SEARCH.name: "RETRIEVER",
    models.RERANK.name: "RERANKER",
    models.ENCODE_QUERY.name: "EMBEDDING",
    models.ENCODE_DOCUMENT.name: "EMBEDDING",
}
"""OpenInference's kinds of spans, by the served model."""

_ROOM = 100
"""Attributes of lists that a span may have. OpenTelemetry keeps 128 by default, and drops the oldest: of a long answer,
all but the worst hits would be lost, and what kind of span it is."""

_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_WITH_CONTENT = ("true", "span_only", "span_and_event")


class RequestSpan:
    """A context manager around the attempts at one request. Does nothing where nobody traces."""

    def __init__(self, call: Call[Any], headers: Headers) -> None:
        self.headers = headers
        """To send: those given, and the span's context."""
        self._call = call
        self._span: Span | None = None
        self._current: AbstractContextManager[Span] | None = None

    def __enter__(self) -> Self:
        if "opentelemetry.trace" in sys.modules and self._call.method == "infer":
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._current is not None:
            if self._span is not None and kind is not None:
                self._span.set_attribute("error.type", kind.__name__)
            self._current.__exit__(kind, error, trace)

    def answered(self, result: T) -> T:
        """The result, whose documents the span has then."""
        if self._span is not None:
            self._span.set_attributes(_outcome(self._call, result))
        return result

    def _begin(self) -> None:
        from opentelemetry import propagate, trace

        name, attributes = _description(self._call)
        tracer = trace.get_tracer("tridex.client")
        self._current = tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
        span = self._current.__enter__()
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        self.headers = {**self.headers, **carrier}
        if span.is_recording():
            self._span = span
            span.set_attributes(_given(self._call))


def _description(call: Call[Any]) -> tuple[str, dict[str, Any]]:
    """The span's name and attributes."""
    model, given = call.arguments["model_name"], call.arguments["parameters"]
    operation = labels.RERANK_TEXTS if model == models.RERANK.name else given.get(parameters.OPERATION, model)
    attributes = {"db.system.name": "tridex", "db.operation.name": operation}
    if collection := given.get(parameters.COLLECTION):
        attributes["db.collection.name"] = collection
    if kind := _KINDS.get(model):
        attributes["openinference.span.kind"] = kind
    if model == models.SEARCH.name:
        mode = given.get(parameters.MODE, parameters.DEFAULT_MODE)
        attributes["tridex.mode"] = labels.mode_label(mode, exact=given.get(parameters.EXACT, True))
        if parameters.TOP_K in given:
            attributes["tridex.top_k"] = given[parameters.TOP_K]
    return f"{operation} {collection}" if collection else operation, attributes


def _given(call: Call[Any]) -> dict[str, Any]:
    """What the request asks with and about."""
    attributes: dict[str, Any] = {}
    if not _captures_content():
        return attributes
    queries, texts = ([text.decode() for text in several] for several in (call.queries, call.texts))
    if len(queries) == 1:
        attributes["input.value"] = queries[0]
    elif queries:
        attributes.update({"input.value": json.dumps(queries), "input.mime_type": "application/json"})
    model = call.arguments["model_name"]
    if model == models.RERANK.name:
        attributes["reranker.query"] = queries[0]
        documents = ({"id": str(i), "content": text} for i, text in enumerate(texts))
        attributes.update(_listed("reranker.input_documents", "document", documents, _ROOM // 2))
    elif _KINDS.get(model) == "EMBEDDING":
        attributes.update(_listed("embedding.embeddings", "embedding", ({"text": text} for text in texts), _ROOM))
    return attributes


def _outcome(call: Call[Any], result: object) -> dict[str, Any]:
    """The documents of an answer to one query, best first."""
    if not isinstance(result, list):
        return {}
    with_content = _captures_content()
    if call.arguments["model_name"] == models.RERANK.name:
        best_first = sorted(result, key=lambda one: -one.relevance_score)
        return _listed(
            "reranker.output_documents",
            "document",
            (_reranked(call, one, with_content) for one in best_first),
            _ROOM // 2,
        )
    if len(result) == 1 and isinstance(result[0], SearchResult):
        return _listed("retrieval.documents", "document", (_found(hit, with_content) for hit in result[0]), _ROOM)
    return {}


def _reranked(call: Call[Any], result: RerankResult, with_content: bool) -> dict[str, Any]:
    content = {"content": call.texts[result.index].decode()} if with_content else {}
    return {"id": str(result.index), "score": result.relevance_score, **content}


def _found(hit: Hit, with_content: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"id": hit.id, "score": hit.score}
    if with_content and hit.text is not None:
        found["content"] = hit.text
    if with_content and hit.metadata is not None:
        found["metadata"] = json.dumps(hit.metadata)
    return found


def _listed(name: str, kind: str, items: Iterable[Mapping[str, Any]], room: int) -> dict[str, Any]:
    """A list as OpenInference writes it, one attribute for each field: the first items, as far as there is room."""
    attributes: dict[str, Any] = {}
    for i, item in enumerate(items):
        if len(attributes) + len(item) > room:
            break
        attributes.update({f"{name}.{i}.{kind}.{field}": value for field, value in item.items()})
    return attributes


def _captures_content() -> bool:
    return os.environ.get(_CONTENT, "").lower() in _WITH_CONTENT
