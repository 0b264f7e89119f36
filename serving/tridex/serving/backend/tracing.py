"""Traces of requests by OpenTelemetry: a span for the request, a child for each stage, sent to an OTLP endpoint.

Triton server's own trace mode is not used: it knows nothing of stages. Spans are made of a request's timeline once it
is answered, so that one that is not sampled costs a look at its header.

Needs the extra `tracing`; imported only where there is an endpoint.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from .service import ErrorCode, RequestError, Sender
from .trace_context import TraceContext

_EXPORT_S = 2.0
"""How long sending some spans may take. The queue holds 2,048; more are dropped."""

_GATHER_MS = 1000
"""How long spans wait for others to be sent with."""

_PATH = "/v1/traces"

_log = logging.getLogger(__name__)


class Tracer:
    """Makes spans of timelines."""

    def __init__(self, endpoint: str, sample_rate: float, model: str, run: Path | None) -> None:
        """`endpoint`: of OTLP over HTTP. `sample_rate`: the share of the requests without a trace of their caller that
        are traced; the others are where the caller says so. `run`: the run folder."""
        # It says each time that it cannot send; we say it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        os.environ.setdefault("OTEL_SERVICE_NAME", "tridex")
        self._sample_rate = sample_rate
        url = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
        resource = Resource.create({"service.version": version("tridex"), "tridex.model": model})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OneWarning(OTLPSpanExporter(url, timeout=_EXPORT_S), url, run)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_GATHER_MS))
        self._tracer = self._provider.get_tracer("tridex.serving")

    def record(self, sender: Sender, ended: float, error: RequestError | None) -> None:
        """Records a request that was answered just now, if it is sampled."""
        caller = sender.trace
        if not (caller.sampled if caller else random.random() < self._sample_rate):
            return
        timeline = sender.timeline
        offset = time.time() - time.monotonic()

        def at(seconds: float) -> int:
            return int(1e9 * (seconds + offset))

        collection = timeline.attributes.get("collection")
        attributes = {
            "db.system.name": "tridex",
            "db.operation.name": timeline.operation,
            **({"db.collection.name": collection} if collection else {}),
            **{f"tridex.{name}": value for name, value in timeline.attributes.items() if name != "collection"},
        }
        if timeline.mode != timeline.operation:
            attributes["tridex.mode"] = timeline.mode
        span = self._tracer.start_span(
            f"{timeline.operation} {collection}" if collection else timeline.operation,
            set_span_in_context(_remote(caller)) if caller else None,
            SpanKind.SERVER,
            attributes,
            start_time=at(timeline.arrived_at),
        )
        if error:
            span.set_attribute("error.type", error.code.name)
            if error.code is ErrorCode.INTERNAL:
                span.set_status(Status(StatusCode.ERROR, str(error)))
        inside = set_span_in_context(span)
        for one in timeline.by_stage(ended):
            stage = self._tracer.start_span(one.stage.value, inside, start_time=at(one.began))
            stage.end(at(one.ended))
        span.end(at(ended))

    def close(self) -> None:
        """Sends what is left, in two seconds at most."""
        self._provider.shutdown()


class OneWarning(SpanExporter):
    """Says once, for all processes of the server, that spans cannot be sent, and once that they can again."""

    def __init__(self, inner: SpanExporter, url: str, run: Path | None) -> None:
        self._inner = inner
        self._url = url
        self._said = run / "traces-are-lost" if run else None
        """A file that is there while spans are lost."""
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing and self._first():
            _log.warning("traces cannot be sent to %s; requests are served all the same", self._url)
        elif self._failing and not failing and self._first_again():
            _log.warning("traces can be sent again to %s", self._url)
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def _first(self) -> bool:
        """Whether no other process has said it."""
        try:
            if self._said:
                self._said.touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # as on a full disk
            return True
        return True

    def _first_again(self) -> bool:
        """Whether no other process has said that they can be sent again."""
        try:
            if self._said:
                self._said.unlink()
        except FileNotFoundError:
            return False
        except OSError:  # as on a file system that refuses writes
            return True
        return True


def _remote(caller: TraceContext) -> NonRecordingSpan:
    return NonRecordingSpan(
        SpanContext(int(caller.trace_id, 16), int(caller.span_id, 16), True, TraceFlags(TraceFlags.SAMPLED))
    )
