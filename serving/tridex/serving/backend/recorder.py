"""What becomes of a request's timeline when it is answered: metrics, and its spans where it is traced."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tridex.serving.metrics.registry import Metrics
from tridex.serving.metrics.table import REQUEST_DURATION, REQUESTS, STAGE_BATCHES, STAGE_DURATION

from .service import RequestError, Sender

if TYPE_CHECKING:  # imports an extra
    from .tracing import Tracer


class Recorder:
    """Counts answered requests, and traces some."""

    def __init__(self, metrics: Metrics, tracer: Tracer | None) -> None:
        self._metrics = metrics
        self._tracer = tracer

    def answered(self, sender: Sender, error: RequestError | None) -> None:
        """A request's answer, or its error, has been handed to Triton server. Stages of failed ones are not counted:
        a refusal takes no time, and would hide what the others take."""
        ended = time.monotonic()
        timeline = sender.timeline
        self._metrics.add(REQUESTS, timeline.operation, error.code.name if error else "OK")
        if error is None:
            self._metrics.observe(REQUEST_DURATION, ended - timeline.arrived_at, timeline.operation)
            for one in timeline.by_stage(ended):
                labels = (one.stage.value, timeline.mode)
                self._metrics.observe(STAGE_DURATION, one.seconds, *labels)
                if one.share:
                    self._metrics.add(STAGE_BATCHES, *labels, amount=one.share)
        if self._tracer is not None:
            self._tracer.record(sender, ended, error)

    def close(self) -> None:
        """Sends the spans that are left."""
        if self._tracer is not None:
            self._tracer.close()
