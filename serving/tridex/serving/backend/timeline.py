"""When what was done for a request: the one source of its metrics and of its trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from tridex.serving.metrics.table import Stage

UNKNOWN = "unknown"

_BEGAN = itemgetter(1)


class Interval(NamedTuple):
    """A stage of a request, from one time of the monotonic clock to another."""

    stage: Stage
    began: float
    ended: float
    share: float
    """Of the batch in which it was done: of one with four requests, each has a quarter."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(eq=False)
class Timeline:
    """What is known of a request by now. Each part of the service that works on it adds what it has done."""

    arrived_at: float = field(default_factory=time.monotonic)
    operation: str = UNKNOWN
    """The label `operation`, once the request is parsed so far."""
    mode: str = UNKNOWN
    """The label `mode`."""
    attributes: dict[str, str | int] = field(default_factory=dict)
    """Of its span in a trace."""
    intervals: list[Interval] = field(default_factory=list)

    def is_about(self, operation: str, mode: str | None = None, **attributes: str | int) -> None:
        """Says what the request asks for. `mode` is a search's."""
        self.operation, self.mode = operation, mode or operation
        self.attributes.update(attributes)

    def add(self, stage: Stage, began: float, ended: float, share: float = 1.0) -> None:
        """Something was done."""
        self.intervals.append(Interval(stage, began, ended, share))

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Something is done meanwhile."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, began, time.monotonic())

    def by_stage(self, ended: float) -> list[Interval]:
        """WAIT, the time of no stage until `ended`; then each stage in sum, from when it began first."""
        arrived_at = reached = self.arrived_at
        waited_s = ended - arrived_at
        sums: dict[Stage, list[float]] = {}
        for stage, begun, until, share in sorted(self.intervals, key=_BEGAN):
            began = max(begun, arrived_at)  # It may have joined a unit of work that was begun before it came.
            if stage in sums:
                sums[stage][1] += until - began
                sums[stage][2] += share
            else:
                sums[stage] = [began, until - began, share]
            if until > reached:
                waited_s -= until - max(began, reached)
                reached = until
        wait = Interval(Stage.WAIT, arrived_at, arrived_at + max(0.0, waited_s), 0.0)
        return [wait, *(Interval(stage, began, began + s, share) for stage, (began, s, share) in sums.items())]
