"""Whether a lane is overloaded, and how little may wait then.

A queue that is as long as its clients' timeouts allow answers a little more than a short one and makes everybody late.
But clients who ask again once they are answered, 64 or 256 of them, keep a long queue as well, in which nobody must be
refused. What tells the two apart is that of an overload more is refused than answered, and that it does not end: of a
burst some may have to be refused, and all others can be answered in time. Only where refusals go on is the queue kept
short, and only for those clients of whom some must be refused: one who would wait longer than any of them is not
concerned.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from tridex.serving.gate import Refused

_WINDOW_S = 0.25
"""Answers and refusals of this window and the one before it count."""

_BURST_S = 0.1
"""What is refused in so much time after the queue became long may be the rest of a burst: a process that starts 64
searches at once takes half of it to send them."""

_LONE_REQUESTS = 1.5
"""How long a short queue is, in times that a request takes which finds nobody before it."""

_REQUESTS = 1
"""A queue of so many is never long: lone requests may have been smaller ones."""

_SIMILAR = 1.1
"""A timeout up to so many times another is taken to be as long: clients say how much of theirs is left."""

_SMOOTHING = 0.1


@dataclass
class _Window:
    answered: int = 0
    refused: int = 0
    longest_refused_s: float = 0.0


class Pressure:
    """Of one lane."""

    def __init__(self) -> None:
        self._lone_s = 0.0
        self._long_since: float | None = None
        self._before, self._window = _Window(), _Window()
        self._began = time.monotonic()
        self.below_s = 0.0
        """The timeout below which an overload concerns requests; 0 while there is none."""

    @property
    def is_on(self) -> bool:
        """Whether there is an overload."""
        return self.below_s > 0

    def concerns(self, timeout_s: float) -> bool:
        """Whether there is an overload, and a request with this timeout is to find a short queue or none."""
        return timeout_s < self.below_s

    def is_long(self, requests: int, wait_s: float) -> bool:
        """Whether a queue of so many requests, which are done in so many seconds, is no short one."""
        return requests > _REQUESTS and wait_s > self.short_wait_s

    @property
    def short_wait_s(self) -> float:
        """How long a short queue is. Infinitely long as long as no request was alone."""
        return _LONE_REQUESTS * self._lone_s or math.inf

    def answered_alone(self, seconds: float) -> None:
        """A request found nobody before it, nobody came meanwhile, and it took so long."""
        self._lone_s += (seconds - self._lone_s) * (_SMOOTHING if self._lone_s else 1.0)

    def answered(self, requests: int) -> None:
        """So many were answered."""
        self._window.answered += requests

    def queue(self, *, is_long: bool) -> None:
        """Whether the queue is long now. Where it becomes so, what was before does not count."""
        if not is_long:
            self._long_since = None
        elif self._long_since is None:
            self._long_since = time.monotonic()
            if not self.is_on:
                self._forget(self._long_since)

    def refused(self, refused: Refused) -> None:
        """Requests were refused because they would have waited too long."""
        if not self.is_on and self._long_since is not None and time.monotonic() - self._long_since < _BURST_S:
            return
        self._window.refused += refused.requests
        self._window.longest_refused_s = max(self._window.longest_refused_s, refused.longest_timeout_s)

    def look(self, under_way: int) -> None:
        """Decides anew. So many requests are being answered: they become answers in lumps."""
        windows = (self._before, self._window)
        overloaded = sum(one.refused for one in windows) > sum(one.answered for one in windows) + under_way
        self.below_s = _SIMILAR * max(one.longest_refused_s for one in windows) if overloaded else 0.0
        if time.monotonic() - self._began > _WINDOW_S:
            self._before, self._window, self._began = self._window, _Window(), time.monotonic()

    def rest(self) -> None:
        """Nobody waits. What was before a long rest does not count."""
        now = time.monotonic()
        if now - self._began > 2 * _WINDOW_S:
            self._forget(now)
            self.below_s = 0.0

    def _forget(self, now: float) -> None:
        self._before, self._window, self._began = _Window(), _Window(), now
