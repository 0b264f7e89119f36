"""A queue of the scheduler, and what is admitted to it.

A request whose wait would exceed its timeout is refused at once, so that what is admitted is answered in time; where
more is refused than answered, the queue is kept short (pressure.py).
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import TokenBatch
from tridex.serving.gate import Door, Refused

from .pressure import Pressure
from .service import Arrays, ErrorCode, HasSender, RequestError

UNIT_TOKENS = 512
"""Padded tokens of a unit: some 0.1 s of a 6-layer MiniLM on two CPU cores."""

TOKENS_PER_WEIGHT = 64
"""Of a task of many texts; one of few tokens counts as 1 as well."""

_UNIT_WEIGHT = UNIT_TOKENS // TOKENS_PER_WEIGHT

_SHARE = 0.9
"""Of a sender's timeout. The rest lets our error, which says more than a timeout, reach the sender."""

_LEAST_PATIENCE_S = 0.25
"""However soon some senders leave, as others may wait longer."""

_SOON_S = 0.5
"""A request that has waited for longer is not refused any more because there are too many."""

Encode = Callable[[Sequence[TokenBatch]], list[Any]]
"""Tokens of several texts, [1, tokens] each, to their embeddings, float32 [1, tokens, dim] each."""


Wait = Callable[[], None]
"""Waits for work that a device has begun, and answers the tasks that it is for."""

R = TypeVar("R", bound=HasSender)


def retry_after(seconds: float) -> str:
    """How a refusal ends. Hundredths are rounded up: whoever retried after none would be refused again."""
    return f"retry after {max(1, math.ceil(100 * seconds)) / 100:.2f} s"


class Encoded(NamedTuple):
    """One text, or one window of it."""

    embeddings: Any
    """float32 [tokens, dim]: numpy, or torch where the lane's encoder leaves them on a GPU, with zeros behind then."""
    mask: NDArray[np.int64]
    """[tokens], 1 where the token scores."""

    @property
    def scoring(self) -> NDArray[np.float32]:
        """The embeddings that score, [scoring tokens, dim]."""
        scoring: NDArray[np.float32] = self.embeddings[self.mask != 0]
        return scoring


@dataclass(eq=False)
class Task(Generic[R]):
    """One parsed request on its way through the encoder."""

    request: R
    rows: Iterator[TokenBatch]
    """Its texts' tokens, [1, tokens] each, made when they are wanted. May raise RequestError, which fails the task."""
    weight: int = 1
    """Its work that is left, to estimate how long others wait: some 64 tokens each."""
    size: int = 0
    """Bytes of its texts."""
    is_canary: bool = False
    """A small one of the model itself, which says nothing of how long others take."""
    encoded: list[Encoded] = field(default_factory=list)
    tokens: int = 0
    """Of the rows taken."""
    answer: Future[Arrays | RequestError] = field(default_factory=Future)


class Lane(Generic[R]):
    """Tasks of one kind. A lane takes one unit of work in every turn of the scheduler."""

    def __init__(
        self,
        finish: Callable[[list[Task[R]]], Wait | None],
        *,
        default_wait_s: float,
        name: str,
        label: str,
        max_weight: int,
        door: Door | None = None,
        encode: Encode | None = None,
        encodes_meanwhile: bool = False,
    ) -> None:
        """`finish` answers tasks whose texts are encoded, together at most `max_weight` or one task; or it gives their
        work to a device and returns what waits for it, which is called when the next unit is begun or none is waiting.
        `label` is the lane's in metrics. A task without a timeout waits `default_wait_s` at most, and half the time
        after which other senders left without an answer. `encode` is used in place of the scheduler's. What `finish`
        has begun is waited for after one unit more; with `encodes_meanwhile`, as for a write, not before other work is
        to begin or nothing is waiting."""
        self.encodes_meanwhile = encodes_meanwhile
        self.encode = encode
        self._door = door or Door()
        self._pressure = Pressure()
        self._alone: tuple[Task[R], float] | None = None
        """A task before which nobody was waiting, since when, until another comes."""
        self.name = name
        self.label = label
        self.finish = finish
        self.max_weight = max_weight
        self.patience_s = default_wait_s
        self._default_wait_s = default_wait_s
        self.waiting: deque[Task[R]] = deque()
        self._weights: Counter[int] = Counter()
        """How many of the tasks that are not answered yet have which weight."""
        self._pace_s = 0.0
        """Seconds for a weight of 1, lately."""
        self._last = 0.0

    def wait_s(self, weight: int) -> float:
        """How long a task of this weight that comes now will wait: turns are fair, so that of every other one as much
        is done meanwhile as of this one, a unit at the least."""
        share = max(weight, _UNIT_WEIGHT)
        return self._pace_s * sum(min(other, share) * count for other, count in self._weights.items())

    def check(self, task: Task[R]) -> None:
        """Raises RequestError OVERLOADED where a task that comes now would wait too long."""
        wait_s = self.wait_s(task.weight)
        timeout_s = task.request.sender.timeout_s
        assumed_s = self._assumed_timeout_s(task)
        most = _SHARE * assumed_s
        why = "as this one says no timeout" if timeout_s is None else "by its timeout"
        if self._pressure.concerns(assumed_s) and self._pressure.is_long(self.requests, wait_s):
            most, why = min(most, self._pressure.short_wait_s), "as more are refused than answered"
        if wait_s > most:
            self._pressure.refused(Refused(1, assumed_s))
            raise RequestError(
                ErrorCode.OVERLOADED,
                f"{self.requests} requests are before this one at {self.name}, some {wait_s:.2f} s; expected at most "
                f"{most:.2f} s, {why}; {retry_after(wait_s - most)}",
            )

    @property
    def requests(self) -> int:
        """Tasks that are not answered yet."""
        return self._weights.total()

    @property
    def is_long(self) -> bool:
        """Whether more wait than are to wait in an overload."""
        return self._pressure.is_long(self.requests, self.wait_s(1))

    @property
    def is_piling_up(self) -> bool:
        """Whether an overload may have begun."""
        return self.is_long and not self._pressure.is_on

    def add(self, task: Task[R]) -> None:
        """A task starts to wait."""
        self._alone = None
        if not self._weights:
            self._last = time.monotonic()
            self._alone = None if task.is_canary else (task, self._last)
            self._pressure.refused(self._door.take_refused())  # before the rest, if it was one
            self._pressure.rest()
        self._count(task.weight, 1)
        self._tell()

    def remove(self, task: Task[R]) -> None:
        """A task is answered."""
        if self._alone and self._alone[0] is task:
            self._alone = None
        self._count(task.weight, -1)
        self._tell()

    def reduce(self, task: Task[R], tokens: int) -> None:
        """Some tokens of a task are done, and others are left."""
        self._count(task.weight, -1)
        task.weight = max(1, task.weight - tokens // TOKENS_PER_WEIGHT)
        self._count(task.weight, 1)

    def _count(self, weight: int, tasks: int) -> None:
        self._weights[weight] += tasks
        if not self._weights[weight]:
            del self._weights[weight]

    def _assumed_timeout_s(self, task: Task[R] | None = None) -> float:
        """A task's timeout, or that of one without."""
        timeout_s = task.request.sender.timeout_s if task else None
        return self.patience_s / _SHARE if timeout_s is None else timeout_s

    def _tell(self) -> None:
        """Tells the front ends what the smallest request would be told by `check`."""
        wait_s = self.wait_s(1)
        shortest_s, is_long = wait_s / _SHARE, self._pressure.is_long(self.requests, wait_s)
        self._pressure.queue(is_long=is_long)
        if is_long:
            shortest_s = max(shortest_s, self._pressure.below_s)
        self._door.tell(shortest_s, self._assumed_timeout_s())

    def finished(self, weight: int, tasks: Sequence[Task[R]]) -> None:
        """Work of this weight is done, and these tasks are. It took the time since the last call, other lanes' turns
        included."""
        if not weight:
            return
        now = time.monotonic()
        pace_s = (now - self._last) / weight
        self._last = now
        self._pace_s += (pace_s - self._pace_s) * (min(0.1 * weight, 0.5) if self._pace_s else 1.0)
        self.patience_s = min(self._default_wait_s, 1.01 * self.patience_s)
        self._pressure.answered(len(tasks))
        if self._alone and self._alone[0] in tasks:
            self._pressure.answered_alone(now - self._alone[1])

    def take_abandoned(self) -> list[Task[R]]:
        """Takes out the tasks whose senders have left."""
        over = [task for task in self.waiting if task.request.sender.has_left]
        for task in over:
            self.waiting.remove(task)
            if task.request.sender.timeout_s is None:
                waited_s = time.monotonic() - task.request.sender.arrived_at
                self.patience_s = max(_LEAST_PATIENCE_S, min(self.patience_s, waited_s / 2))
        return over

    def take_surplus(self) -> list[Task[R]]:
        """Takes out the newest tasks, as far as they would be refused if they came now and can be told so soon, by
        what the front ends have refused meanwhile."""
        self._pressure.refused(self._door.take_refused())
        self._pressure.look(self.requests - len(self.waiting))
        self._tell()
        over: list[Task[R]] = []
        if not self._pressure.is_on:
            return over
        wait_s, now = self.wait_s(1), time.monotonic()
        for task in reversed(self.waiting):
            before_s = wait_s - self._pace_s * min(task.weight, _UNIT_WEIGHT)
            if not self._pressure.is_long(self.requests - len(over) - 1, before_s):
                break
            waited_s = now - task.request.sender.arrived_at
            if self._pressure.concerns(self._assumed_timeout_s(task)) and waited_s < _SOON_S and not task.tokens:
                over.append(task)
                wait_s = before_s
        for task in over:
            self.waiting.remove(task)
        return over

    def surplus(self) -> RequestError:
        """What is told to those of `take_surplus`."""
        return RequestError(
            ErrorCode.OVERLOADED,
            f"more requests are refused than answered at {self.name}, and this one is among the last; "
            f"{retry_after(_SOON_S)}",
        )
