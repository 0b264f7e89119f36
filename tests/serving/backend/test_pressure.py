"""When a lane counts as overloaded: while more is refused than answered, for those clients who are refused."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tridex.serving.backend import pressure as module
from tridex.serving.backend.pressure import Pressure
from tridex.serving.gate import Refused


class Clock:
    """In place of the module's time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def after(answered: int, refused: int, longest_s: float = 1.0) -> Pressure:
    pressure = Pressure()
    pressure.answered(answered)
    pressure.refused(Refused(refused, longest_s))
    pressure.look(0)
    return pressure


def refuse(pressure: Pressure, requests: int) -> None:
    pressure.refused(Refused(requests, 1.0))
    pressure.look(4)


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0.001, 100))
def test_it_is_on_while_more_is_refused_than_answered(answered: int, refused: int, longest_s: float) -> None:
    pressure = after(answered, refused, longest_s)
    assert pressure.concerns(longest_s) is (refused > answered)
    assert not pressure.concerns(2 * longest_s), "who waits longer than those that are refused is not concerned"


def test_what_is_refused_by_and_by_beside_many_answers_is_no_overload(clock: Clock) -> None:
    pressure = Pressure()
    for _ in range(100):
        clock.now += 0.1
        pressure.answered(10)
        pressure.refused(Refused(9, 1.0))
        pressure.look(0)
        assert not pressure.concerns(0.5)


def test_what_is_refused_of_a_burst_is_no_overload(clock: Clock) -> None:
    pressure = Pressure()
    for _ in range(3):
        pressure.queue(is_long=True)
        for _ in range(9):
            clock.now += 0.01
            refuse(pressure, 100)
            assert not pressure.is_on
        clock.now += 0.5
        pressure.queue(is_long=False)
    pressure.queue(is_long=True)
    clock.now += 2 * module._BURST_S
    refuse(pressure, 4)
    assert not pressure.is_on, "as many are being answered"
    refuse(pressure, 1)
    assert pressure.is_on, "it goes on"


def test_what_was_answered_before_the_queue_became_long_does_not_count(clock: Clock) -> None:
    pressure = Pressure()
    pressure.answered(1000)
    pressure.queue(is_long=True)
    clock.now += module._BURST_S
    refuse(pressure, 5)
    assert pressure.is_on
    pressure.queue(is_long=False)
    pressure.queue(is_long=True)
    pressure.look(0)
    assert pressure.is_on, "a queue that is kept short becomes long again and again"


def test_it_is_over_when_nothing_is_refused_any_more(clock: Clock) -> None:
    pressure = after(10, 500)
    seconds = 0.0
    while pressure.concerns(1.0):
        clock.now += 0.05
        seconds += 0.05
        pressure.answered(5)
        pressure.look(0)
    assert 0.25 <= seconds < 1.0


def test_what_was_before_a_rest_does_not_count(clock: Clock) -> None:
    pressure = after(10, 500)
    pressure.rest()
    assert pressure.concerns(1.0), "a moment without work is no rest"
    clock.now += 10
    pressure.rest()
    assert not pressure.concerns(1.0)


def test_a_short_queue_is_measured_in_lone_requests() -> None:
    pressure = Pressure()
    assert pressure.short_wait_s == math.inf and not pressure.is_long(1000, 1000.0)
    for _ in range(100):
        pressure.answered_alone(0.02)
    assert pressure.short_wait_s == pytest.approx(module._LONE_REQUESTS * 0.02)
    assert pressure.is_long(2, 0.2) and not pressure.is_long(100, 0.02)
    assert not pressure.is_long(1, 0.2), "one that is larger than the lone ones were"
    pressure.answered_alone(10.0)
    assert pressure.short_wait_s < 20, "one that took long is one of many"
