"""The run folder: files by which the processes of models report their state, and are asked to stop.

A model's process writes INSTANCE.json there every half second. The launcher creates the file `starting` before it
starts them and renames it: to `serving` when all are ready, to `draining`, so that models refuse new requests, except
those of other models, and to `closing`, so that they refuse all requests and close their services. Files are
overwritten and renamed, which works on a full disk, too.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from . import cancelled_calls
from .gate import Gate
from .metrics.registry import Snapshot

VARIABLE = "TRIDEX_RUN"
"""The environment variable by which models learn their run folder."""

_PAUSE_S = 3.0
"""Shorter pauses count as silence, so it is less than that after which a process is replaced."""

METRICS_SUFFIX = ".metrics"
"""Of the file in which a model's process writes a snapshot of its metrics, as JSON."""

GATE = "gate"
"""The file of gate.py."""

CANCELLED = "cancelled"
"""The file of cancelled_calls.py."""

STARTING = "starting"
SERVING = "serving"
DRAINING = "draining"
CLOSING = "closing"


@dataclass(frozen=True)
class Report:
    """The state of a model's process."""

    model: str
    pid: int
    at_s: float
    """When, by the machine's monotonic clock, which all its processes share."""
    in_flight: int
    """Requests that it works on."""
    phase: str
    """The launcher's phase that it has seen last."""
    closed: bool
    """Whether its service is closed: its threads have ended and it writes nothing more."""
    trouble: str | None
    """Why the model does not work as it should, where it knows."""
    failure: str | None = None
    """Why only a new process can mend that."""
    stuck: str | None = None
    """Why it answers nothing at the moment."""


class RunFolder:
    """The launcher's side."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self._marker = folder / STARTING
        self._marker.touch(mode=0o600)
        self.gate = Gate(folder / GATE)
        cancelled_calls.make_file(folder / CANCELLED)
        self._reports: dict[Path, Report] = {}

    def reports(self) -> list[Report]:
        """The newest of every model's process that has reported."""
        for file in self.folder.glob("*.json"):
            try:
                self._reports[file] = Report(**json.loads(file.read_bytes()))
            except (OSError, ValueError, TypeError):
                continue  # read while it was written; if it stays so, the report before it gets old
        return list(self._reports.values())

    def metrics(self) -> list[Snapshot]:
        """What every model's process has counted, a second ago at most."""
        snapshots = []
        for file in self.folder.glob(f"*{METRICS_SUFFIX}"):
            with contextlib.suppress(OSError, ValueError):
                snapshots.append(json.loads(file.read_bytes()))
        return snapshots

    def serve(self) -> None:
        """Tells models that all of them are ready."""
        self._enter(SERVING)

    def drain(self) -> None:
        """Makes models refuse new requests and answer those in flight."""
        self._enter(DRAINING)

    def idle(self) -> bool:
        """Whether every model has seen that it is to drain, and has no request in flight."""
        return all(report.phase == DRAINING and not report.in_flight for report in self.reports())

    def close_services(self) -> None:
        """Makes models refuse everything and close their services."""
        self._enter(CLOSING)

    def closed(self) -> bool:
        """Whether every model has closed its service."""
        return all(report.closed for report in self.reports())

    def _enter(self, phase: str) -> None:
        marker = self.folder / phase
        try:
            self._marker.rename(marker)
        except FileNotFoundError:  # tidied away, as old files in /tmp may be
            marker.touch(mode=0o600)
        self._marker = marker


class Silence:
    """How long other processes have been silent, counting only the time in which this process was running.

    Where it was not, the machine or the container was paused, and the others with it.
    """

    def __init__(self) -> None:
        self._looked_s = self._awake_s = time.monotonic()

    def look(self) -> None:
        """To be called at least every few seconds."""
        now = time.monotonic()
        if now - self._looked_s > _PAUSE_S:
            self._awake_s = now
        self._looked_s = now

    def since(self, reported_s: float) -> float:
        """Seconds until the last look, from a time of the monotonic clock, such as a report's."""
        return self._looked_s - max(reported_s, self._awake_s)
