"""What the launcher answers on /metrics: its own metrics, those of the models' processes, and Triton server's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.metadata import version

import psutil

from tridex.serving.gate import LABELS
from tridex.serving.metrics.exposition import exposition
from tridex.serving.metrics.registry import Gauge, Metrics
from tridex.serving.metrics.table import BUILD_INFO, PROCESS_FILES, PROCESS_MEMORY, READY, RESTARTS, SHED

from . import endpoint
from .supervisor import Supervisor
from .tritonserver import TritonProcess


class ServerMetrics:
    """Answers for one server. `triton` is the host and port that tritonserver serves metrics on."""

    def __init__(self, supervisor: Supervisor[TritonProcess], device: str, triton: tuple[str, int]) -> None:
        self._supervisor = supervisor
        self._device = device
        self._triton = triton

    def answer(self) -> endpoint.Answer:
        """Always an answer: what the launcher knows is of most use while tritonserver does not run."""
        own = Metrics()
        own.gauges(self._gauges)
        own.add(RESTARTS, amount=self._supervisor.restarts)
        snapshots = []
        if server := self._supervisor.server:
            for lane, shed in server.run.gate.shed().items():
                own.add(SHED, LABELS[lane], amount=shed)
            snapshots = server.run.metrics()
        return endpoint.Answer(
            body=exposition([own.snapshot(), *snapshots]) + endpoint.fetch(*self._triton, "/metrics").body
        )

    def _gauges(self) -> Iterator[Gauge]:
        yield Gauge(BUILD_INFO, (version("tridex"), self._device), 1)
        yield Gauge(READY, (), self._supervisor.is_ready)
        processes = {"launcher": os.getpid()}
        if server := self._supervisor.server:
            processes |= server.processes()
        for name, pid in processes.items():
            with contextlib.suppress(psutil.Error):  # it has ended
                process = psutil.Process(pid)
                yield Gauge(PROCESS_MEMORY, (name,), process.memory_info().rss)
                yield Gauge(PROCESS_FILES, (name,), process.num_fds())
