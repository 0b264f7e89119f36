"""Reads Triton server's own trace: the time it spends around a model, before the request and after the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_REQUESTS_PER_FILE = 10


def arguments(file: Path) -> tuple[str, ...]:
    """tritonserver's arguments for a trace of every request, in files named FILE.0, FILE.1 and so on.

    Each is written when there are enough requests for it: our servers end by SIGKILL, and write nothing then.
    """
    settings = (
        f"triton,file={file}",
        f"triton,log-frequency={_REQUESTS_PER_FILE}",
        "level=TIMESTAMPS",
        "rate=1",
        "count=-1",
        "mode=triton",
    )
    return tuple(f"--trace-config={setting}" for setting in settings)


@dataclass(frozen=True)
class TracedRequest:
    """One request to a model, in milliseconds. The rest of the total was spent in the model."""

    total_ms: float
    """From the request's arrival in the server to the end of sending its answer."""
    before_ms: float
    """Reading it, queueing it, and passing its tensors to the model."""
    after_ms: float
    """Passing the model's answer back, and sending it."""


def read(file: Path, model: str) -> list[TracedRequest]:
    """The requests to `model` that the files of a trace hold in full."""
    models: dict[int, str] = {}
    spans: dict[int, dict[str, int]] = {}
    written = file.parent.glob(f"{file.name}.*")
    for event in (event for part in written for event in json.loads(part.read_text())):
        models.setdefault(event["id"], event.get("model_name", ""))
        spans.setdefault(event["id"], {}).update({stamp["name"]: stamp["ns"] for stamp in event.get("timestamps", ())})
    return [
        TracedRequest(
            total_ms=_ms(span, "GRPC_WAITREAD_END", "GRPC_SEND_END"),
            before_ms=_ms(span, "GRPC_WAITREAD_END", "COMPUTE_INPUT_END"),
            after_ms=_ms(span, "INFER_RESPONSE_COMPLETE", "GRPC_SEND_END"),
        )
        for key, span in spans.items()
        if models[key] == model and "GRPC_SEND_END" in span
    ]


def _ms(span: dict[str, int], begin: str, end: str) -> float:
    return (span[end] - span[begin]) / 1e6
