"""Reads Triton server's own trace: when a request came, when each model worked on it, when its answer left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tritonclient.grpc


def arguments(file: Path) -> tuple[str, ...]:
    """tritonserver's arguments for a trace of every request in `file`, written while tracing is on."""
    settings = (f"triton,file={file}", "level=OFF", "rate=1", "count=-1", "mode=triton")
    return tuple(f"--trace-config={setting}" for setting in settings)


@contextmanager
def on(address: str) -> Iterator[None]:
    """Traces what a server with these arguments answers meanwhile."""
    with tritonclient.grpc.InferenceServerClient(address) as server:
        server.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
        yield
        server.update_trace_settings(settings={"trace_level": ["OFF"]})


@dataclass(frozen=True)
class TracedRequest:
    """One request to an ensemble, in milliseconds."""

    total_ms: float
    """From the request's arrival in the server to the end of sending its answer."""
    working_ms: dict[str, float]
    """By model, the time that its `execute` took: queue, copies and hand-overs are not in it."""


@dataclass
class _Span:
    model: str = ""
    parent: int | None = None
    ns: dict[str, int] = field(default_factory=dict)

    def ms(self, begin: str, end: str) -> float:
        return (self.ns[end] - self.ns[begin]) / 1e6


def read(file: Path, ensemble: str) -> list[TracedRequest]:
    """The requests to `ensemble` that the trace holds from beginning to end."""
    spans: dict[int, _Span] = {}
    for event in json.loads(file.read_text()):
        span = spans.setdefault(event["id"], _Span())
        span.model = event.get("model_name", span.model)
        span.parent = event.get("parent_id", span.parent)
        span.ns.update({stamp["name"]: stamp["ns"] for stamp in event.get("timestamps", ())})
    working: dict[int, dict[str, float]] = {}
    for span in spans.values():
        if span.parent is not None and "COMPUTE_OUTPUT_START" in span.ns:
            working.setdefault(span.parent, {})[span.model] = span.ms("COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START")
    return [
        TracedRequest(span.ms("GRPC_WAITREAD_END", "GRPC_SEND_END"), working.get(key, {}))
        for key, span in spans.items()
        if span.model == ensemble and "GRPC_SEND_END" in span.ns
    ]
