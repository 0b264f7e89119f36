"""A span for each request to a served model, where the application traces with OpenTelemetry.

Nothing is imported for it where the application has not done so: who traces has imported OpenTelemetry to set it up.
The request carries the span's context to the server, which adds spans of its own below it (`--otlp-endpoint`).

Attributes are those of OpenTelemetry's database conventions, and OpenInference's of a retrieval, which Phoenix and
LangSmith show: ids and scores of hits, and, where OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for content,
the query and the hits' texts and metadata.

References:
    https://opentelemetry.io/docs/specs/semconv/database/
    https://arize-ai.github.io/openinference/spec
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tridex.client.channel import Headers
from tridex.client.results import SearchResult
from tridex.client.wire import Call
from tridex.protocol import models, parameters

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
        """The result, whose hits the span has then."""
        if self._span is not None and isinstance(result, list) and len(result) == 1:
            (only,) = result
            if isinstance(only, SearchResult):
                self._span.set_attributes(_documents(only))
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
            if self._call.query is not None and _captures_content():
                span.set_attribute("input.value", self._call.query.decode())


def _description(call: Call[Any]) -> tuple[str, dict[str, Any]]:
    """The span's name and attributes."""
    model, given = call.arguments["model_name"], call.arguments["parameters"]
    operation = given.get(parameters.OPERATION, model)
    attributes = {"db.system.name": "tridex", "db.operation.name": operation}
    if collection := given.get(parameters.COLLECTION):
        attributes["db.collection.name"] = collection
    if kind := _KINDS.get(model):
        attributes["openinference.span.kind"] = kind
    if model == models.SEARCH.name:
        attributes["tridex.mode"] = given.get(parameters.MODE, parameters.DEFAULT_MODE)
        attributes.update(
            {f"tridex.{name}": given[name] for name in (parameters.EXACT, parameters.TOP_K) if name in given}
        )
    return f"{operation} {collection}" if collection else operation, attributes


def _documents(result: SearchResult) -> dict[str, Any]:
    """The hits, as OpenInference has the documents of a retrieval."""
    with_content = _captures_content()
    attributes: dict[str, Any] = {}
    for i, hit in enumerate(result):
        document = f"retrieval.documents.{i}.document"
        attributes[f"{document}.id"], attributes[f"{document}.score"] = hit.id, hit.score
        if with_content and hit.text is not None:
            attributes[f"{document}.content"] = hit.text
        if with_content and hit.metadata is not None:
            attributes[f"{document}.metadata"] = json.dumps(hit.metadata)
    return attributes


def _captures_content() -> bool:
    return os.environ.get(_CONTENT, "").lower() in _WITH_CONTENT
