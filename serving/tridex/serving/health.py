"""How the processes of models say how they are, and are told to stop: by files in one folder, the run folder.

A model's process writes INSTANCE.json there every half second. The launcher makes `serving` before it starts them and
renames it, to `draining`: models refuse new requests, but for those of other models; then to `closing`: models refuse
all and close their services. Files are overwritten and renamed, so that a full disk does not get in the way.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tridex.protocol.models import MODELS

from .service import Service

_LOOK_S = 0.1
_REPORT_S = 0.5
"""Between reports, but while the server stops: then one follows every look."""
_PAUSE_S = 5.0
_BYTES = 4096
"""Of a report, padded: written at once and over the one before, so that the file never grows."""
_MAX_TROUBLE = 300
"""Characters."""

_SERVING = "serving"
_DRAINING = "draining"
_CLOSING = "closing"

_INTERNAL = {model.name for model in MODELS if model.internal}
"""Asked by other models alone, for requests that these have admitted."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What a model's process says of itself."""

    model: str
    pid: int
    at_s: float
    """When, by the machine's monotonic clock, which all its processes share."""
    in_flight: int
    """Requests that it works on."""
    heard: str
    """What the launcher told it last."""
    closed: bool
    """Whether its service is closed: its threads have ended and it writes nothing more."""
    trouble: str | None
    """Why it must not be relied upon, where it knows."""


class RunFolder:
    """The launcher's side."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self._told = folder / _SERVING
        self._told.touch(mode=0o600)
        self._reports: dict[Path, Report] = {}

    def reports(self) -> list[Report]:
        """The newest of every model's process that has reported."""
        for file in self.folder.glob("*.json"):
            try:
                self._reports[file] = Report(**json.loads(file.read_bytes()))
            except (OSError, ValueError, TypeError):
                continue  # read while it was written; if it stays so, the report before it gets old
        return list(self._reports.values())

    def drain(self) -> None:
        """Has models refuse what is new and answer what is under way."""
        self._tell(_DRAINING)

    def idle(self) -> bool:
        """Whether every model has heard that it is to drain, and has no request in flight."""
        return all(report.heard == _DRAINING and not report.in_flight for report in self.reports())

    def close_services(self) -> None:
        """Has models refuse everything and close their services."""
        self._tell(_CLOSING)

    def closed(self) -> bool:
        """Whether every model has closed its service."""
        return all(report.closed for report in self.reports())

    def _tell(self, word: str) -> None:
        told = self.folder / word
        try:
            self._told.rename(told)
        except FileNotFoundError:  # tidied away, as old files in /tmp may be
            told.touch(mode=0o600)
        self._told = told


class Silence:
    """How long others have said nothing, of the time in which this process looked.

    Where it did not, the machine or the container was paused, and the others with it.
    """

    def __init__(self) -> None:
        self._looked_s = self._awake_s = time.monotonic()

    def look(self) -> None:
        """To be called again and again."""
        now = time.monotonic()
        if now - self._looked_s > _PAUSE_S:
            self._awake_s = now
        self._looked_s = now

    def since(self, heard_s: float) -> float:
        """Seconds until the last look, from a time of the monotonic clock."""
        return self._looked_s - max(heard_s, self._awake_s)


class Reporter:
    """A model process's side: a thread that reports, listens, and ends the process when tritonserver is gone.

    Where there is no run folder, because something else than our launcher started tritonserver, it does the last alone.
    """

    def __init__(self, model: str, instance: str, folder: Path | None) -> None:
        self.service: Service | None = None
        """To be set once there is one; it is closed when the launcher says so."""
        self._model = model
        self._folder = folder
        self._instance = instance
        self._parent = os.getppid()
        self._lock = threading.Lock()
        self._in_flight = 0
        self._accepting = True
        self._heard = _SERVING
        self._reported_s = 0.0
        self._closed = False
        self._ended = threading.Event()
        self._failing = False
        threading.Thread(target=self._run, name="tridex-report", daemon=True).start()

    def admit(self, count: int) -> bool:
        """Whether the model may work on so many requests more; if so, `answered` must be told of each."""
        with self._lock:
            if self._accepting:
                self._in_flight += count
            return self._accepting

    def answered(self, count: int = 1) -> None:
        """So many requests that were admitted have their answer."""
        with self._lock:
            self._in_flight -= count

    def close(self) -> None:
        """Closes the service, unless the launcher had it closed before, and reports no more."""
        self._close_service()
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            if os.getppid() != self._parent:
                # Without tritonserver nobody hears an answer, and a new server wants the memory and the store.
                os._exit(1)
            try:
                if self._folder:
                    self._listen(self._folder)
                    if self._heard != _SERVING or time.monotonic() - self._reported_s >= _REPORT_S:
                        self._report(self._folder)
                        self._reported_s = time.monotonic()
                self._failing = False
            except Exception:
                if not self._failing:
                    _log.exception("model %s could not report; it goes on trying", self._model)
                self._failing = True

    def _listen(self, folder: Path) -> None:
        """Does what the launcher says."""
        self._heard = next((word for word in (_CLOSING, _DRAINING) if (folder / word).exists()), _SERVING)
        closing = self._heard == _CLOSING
        with self._lock:
            self._accepting = self._heard == _SERVING or (self._model in _INTERNAL and not closing)
        if closing:
            self._close_service()

    def _report(self, folder: Path) -> None:
        trouble = self.service.trouble() if self.service else None
        with self._lock:
            report = Report(
                model=self._model,
                pid=os.getpid(),
                at_s=time.monotonic(),
                in_flight=self._in_flight,
                heard=self._heard,
                closed=self._closed,
                trouble=trouble and trouble[:_MAX_TROUBLE],
            )
        text = json.dumps(asdict(report)).encode().ljust(_BYTES)
        file = os.open(folder / f"{self._instance}.json", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(file, text)
        finally:
            os.close(file)

    def _close_service(self) -> None:
        with self._lock:
            service, self.service = self.service, None
        if service is not None:
            service.close()
        self._closed = True
