"""A model process's side of the run folder (run_folder.py): it reports its state, and learns when to stop."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tridex.protocol.models import INTERNAL
from tridex.serving.run_folder import CLOSING, DRAINING, SERVING, STARTING, Report

from . import device_failure
from .answers import Answers
from .canary import Canary
from .service import Service

_LOOK_S = 0.1
_REPORT_S = 0.5
"""Between reports, but while the server stops: then one follows every look."""
_BYTES = 4096
"""Of a report, padded: written at once and over the one before, so that the file never grows."""
_STUCK_S = 60.0
"""More than a model may take until it is given the next requests."""
_MAX_TROUBLE = 300
"""Characters."""
_LATER = (CLOSING, DRAINING, SERVING)
"""The phases after the first, the last one first."""

_log = logging.getLogger(__name__)


class Reporter:
    """A thread that reports, watches for the launcher's phase, and ends the process when tritonserver is gone.

    Without a run folder, where tritonserver was not started by our launcher, it does the last alone. `answers` is the
    thread that sends the model's answers, where it has one.
    """

    def __init__(self, model: str, instance: str, folder: Path | None, answers: Answers | None = None) -> None:
        self.service: Service | None = None
        """To be set once there is one; closed when the launcher asks for it."""
        self._model = model
        self._folder = folder
        self._instance = instance
        self._answers = answers
        self._parent = os.getppid()
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self._in_flight = 0
        self._executing_since: float | None = None
        self._accepting = True
        self._phase = STARTING
        self._canary: Canary | None = None
        self._reported_s = 0.0
        self._closed = False
        self._ended = threading.Event()
        self._failing = False
        threading.Thread(target=self._run, name="tridex-report", daemon=True).start()

    def admit(self, count: int) -> bool:
        """Whether the model may take `count` more requests; if so, `answered` must be called for each."""
        with self._lock:
            accepting = self._accepting and device_failure.failure() is None
            if accepting:
                self._in_flight += count
            return accepting

    def answered(self, count: int = 1) -> None:
        """`count` admitted requests have been answered."""
        with self._lock:
            self._in_flight -= count

    @contextmanager
    def executing(self) -> Iterator[None]:
        """The model takes requests meanwhile, and answers some; until then it is not given others."""
        self._executing_since = time.monotonic()
        try:
            yield
        finally:
            self._executing_since = None

    @property
    def in_flight(self) -> int:
        """Requests that were admitted and are not answered."""
        return self._in_flight

    def close(self) -> None:
        """Closes the service and sends the last answers, unless the launcher had that done before; reports no more."""
        self._close_service()
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            if os.getppid() != self._parent:
                # Without tritonserver no answer reaches a client, and a new server needs the memory and the store.
                os._exit(1)
            try:
                if self._folder:
                    self._follow_phase(self._folder)
                    if self._is_stopping or time.monotonic() - self._reported_s >= _REPORT_S:
                        self._report(self._folder)
                        self._reported_s = time.monotonic()
                self._failing = False
            except Exception:  # whatever it is: a model that no longer reports counts as stuck and is replaced
                if not self._failing:
                    _log.exception("model %s could not report; it goes on trying", self._model)
                self._failing = True

    @property
    def _is_stopping(self) -> bool:
        return self._phase in (DRAINING, CLOSING)

    def _follow_phase(self, folder: Path) -> None:
        """Reads the launcher's phase and acts on it."""
        self._phase = next((word for word in _LATER if (folder / word).exists()), self._phase)
        closing = self._phase == CLOSING
        # Before others are refused: else the canary would be, too.
        self._follow_with_the_canary()
        with self._lock:
            self._accepting = not self._is_stopping or (self._model in INTERNAL and not closing)
        if closing:
            self._close_service()

    def _follow_with_the_canary(self) -> None:
        """It is asked while the server serves."""
        if self._phase == SERVING and self._canary is None and self.service:
            self._canary = Canary(self.service)
        elif self._is_stopping and self._canary:
            self._canary.close()

    def _report(self, folder: Path) -> None:
        failure = device_failure.failure()
        stuck_s = time.monotonic() - (self._executing_since or math.inf)
        stuck = f"it has been at the same requests for {stuck_s:.0f} s" if stuck_s > _STUCK_S else None
        trouble = failure or stuck or (self.service.trouble() if self.service else None)
        trouble = trouble or (self._answers.trouble() if self._answers else None)
        if self._canary:
            failure, trouble = failure or self._canary.failure(), trouble or self._canary.trouble()
        with self._lock:
            report = Report(
                model=self._model,
                pid=os.getpid(),
                at_s=time.monotonic(),
                in_flight=self._in_flight,
                phase=self._phase,
                closed=self._closed,
                trouble=trouble and trouble[:_MAX_TROUBLE],
                failure=failure,
                stuck=stuck,
            )
        text = json.dumps(asdict(report)).encode().ljust(_BYTES)
        file = os.open(folder / f"{self._instance}.json", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(file, text)
        finally:
            os.close(file)

    def _close_service(self) -> None:
        with self._closing:  # Whoever comes second waits until all is closed.
            with self._lock:
                service, self.service = self.service, None
            if service is not None:
                service.close()
                if self._answers:
                    self._answers.close()
            self._closed = True
