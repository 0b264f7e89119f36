"""What a lane admits of bursts and of overloads, by a clock that the test moves."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from tridex.client import Overloaded
from tridex.serving.backend import lane as lanes
from tridex.serving.backend import pressure as pressures
from tridex.serving.backend import service
from tridex.serving.backend.lane import Lane, Task, retry_after
from tridex.serving.backend.scheduler import _LOOK_S
from tridex.serving.backend.service import Request, RequestError, Sender
from tridex.serving.backend.timeline import Timeline
from tridex.serving.gate import Door, Refused

UNIT = 4
"""Tasks that are done together."""
UNIT_S, TASK_S = 0.01, 0.015
"""A unit takes the first, and the second for each of its tasks."""
LONE_S = UNIT_S + TASK_S
CAPACITY = UNIT / (UNIT_S + UNIT * TASK_S)
"""Tasks a second."""
TIMEOUT_S = 1.0


class End(NamedTuple):
    """What became of a task, and when."""

    came: float
    ended: float
    is_answered: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.came


class Served:
    """A lane whose tasks are done in units, as the scheduler does them, after some that came alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        for module in (lanes, pressures, service):
            monkeypatch.setattr(module, "time", clock)
        self.lane: Lane[Request] = Lane(
            lambda _: None, default_wait_s=1.0, name="a test", label="search", max_weight=64
        )
        self.ends: list[End] = []
        self._unit: list[Task[Request]] = []
        self._done_at = float("inf")
        self.run([float(i) for i in range(10)])
        self.ends.clear()

    def run(self, arrivals: Sequence[float]) -> None:
        """Tasks that come so many seconds from now, until all have ended."""
        came = [self.now + after for after in arrivals]
        heapq.heapify(came)
        look_at = self.now
        while came or self._unit:
            self.now = min(self._done_at, look_at, came[0] if came else float("inf"))
            if self.now == self._done_at:
                self._done()
            elif came and self.now == came[0]:
                self._come(heapq.heappop(came))
            else:
                look_at = self.now + _LOOK_S
                if self.lane.is_piling_up:
                    self._refuse_surplus()

    def _come(self, at: float) -> None:
        request = Request({}, sender=Sender(TIMEOUT_S, timeline=Timeline(arrived_at=at)))
        task = Task(request, iter(()))
        try:
            self.lane.check(task)
        except RequestError:
            self.ends.append(End(at, at, False))
            return
        self.lane.add(task)
        self.lane.waiting.append(task)
        if not self._unit:
            self._begin()

    def _begin(self) -> None:
        self._refuse_surplus()
        waiting = self.lane.waiting
        self._unit = [waiting.popleft() for _ in range(min(UNIT, len(waiting)))]
        self._done_at = self.now + UNIT_S + TASK_S * len(self._unit) if self._unit else float("inf")

    def _done(self) -> None:
        self.lane.finished(len(self._unit), self._unit)
        for task in self._unit:
            self._end(task, is_answered=True)
        self._begin()

    def _refuse_surplus(self) -> None:
        for task in self.lane.take_surplus():
            self._end(task, is_answered=False)

    def _end(self, task: Task[Request], *, is_answered: bool) -> None:
        self.lane.remove(task)
        self.ends.append(End(task.request.sender.arrived_at, self.now, is_answered))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


@pytest.mark.parametrize("seconds", [0.0, 0.06])
@pytest.mark.parametrize("requests", [30, 64, 200])
def test_of_a_burst_as_many_are_answered_as_can_be_in_time(served: Served, requests: int, seconds: float) -> None:
    served.run([seconds * i / requests for i in range(requests)])
    answered = [end for end in served.ends if end.is_answered]
    # By the pace that was seen, that of lone requests.
    assert len(answered) >= min(requests, 0.9 * TIMEOUT_S / LONE_S)
    assert all(end.seconds < TIMEOUT_S for end in answered)
    assert all(end.seconds == 0 for end in served.ends if not end.is_answered)


def test_of_an_overload_the_accepted_are_answered_soon(served: Served) -> None:
    began, rate, seconds = served.now, 10 * CAPACITY, 10.0
    served.run([i / rate for i in range(round(rate * seconds))])
    answered = [end for end in served.ends if end.is_answered]
    refused = [end for end in served.ends if not end.is_answered]
    assert len(answered) > 0.6 * CAPACITY * seconds
    late = [end for end in answered if end.seconds > 4 * LONE_S]
    assert len(late) < 0.01 * len(answered) + UNIT
    late_refusals = [end for end in refused if end.seconds > 0]
    # What the queue held when it was seen that refusals go on.
    assert 0 < len(late_refusals) < 0.9 * TIMEOUT_S / TASK_S
    assert all(end.ended - began < 2 * pressures._BURST_S for end in late_refusals)


def test_what_front_ends_refused_before_a_rest_does_not_count(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [Refused(1000, TIMEOUT_S)]
    door = Door()
    monkeypatch.setattr(door, "take_refused", lambda: left.pop() if left else Refused(0, 0.0))
    monkeypatch.setattr(served.lane, "_door", door)
    served.run([10.0] * 20)
    assert not left and len(served.ends) == 20 and all(end.is_answered for end in served.ends)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.004, 0.07, 0.35, 12.0])
def test_who_is_refused_is_told_a_time_that_is_not_over(seconds: float) -> None:
    told = Overloaded(f"no; {retry_after(seconds)}").retry_after_s
    assert told and seconds <= told < seconds + 0.02
