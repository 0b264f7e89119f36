"""How the processes of models say how they are, and are told to stop: by files in one folder, the run folder.

A model's process writes INSTANCE.json there every half second. The launcher makes `serving` before it starts them and
renames it, to `draining`: models refuse new requests, but for those of other models; then to `closing`: models refuse
all and close their services. Files are overwritten and renamed, so that a full disk does not get in the way.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TRIDEX_RUN"
"""The environment variable by which the launcher tells models their run folder."""

_PAUSE_S = 5.0

SERVING = "serving"
DRAINING = "draining"
CLOSING = "closing"


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
        self._told = folder / SERVING
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
        self._tell(DRAINING)

    def idle(self) -> bool:
        """Whether every model has heard that it is to drain, and has no request in flight."""
        return all(report.heard == DRAINING and not report.in_flight for report in self.reports())

    def close_services(self) -> None:
        """Has models refuse everything and close their services."""
        self._tell(CLOSING)

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
