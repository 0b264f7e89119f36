"""Writes what a model's process has counted to the run folder, where the launcher finds it."""

from __future__ import annotations

import json
from pathlib import Path

from tridex.serving.metrics.registry import Metrics
from tridex.serving.run_folder import METRICS_SUFFIX

from .background import Background

_WRITE_S = 1.0
"""Between two writes. Prometheus asks every 15 s or so."""


class MetricsFile:
    """A thread that replaces INSTANCE.metrics by what the metrics are now."""

    def __init__(self, metrics: Metrics, folder: Path, instance: str) -> None:
        self._metrics = metrics
        self._file = folder / f"{instance}{METRICS_SUFFIX}"
        self._thread = Background("metrics", "writes metrics", self._write)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._thread.close()

    def _write(self) -> float:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._metrics.snapshot()))
        new.replace(self._file)
        return _WRITE_S
