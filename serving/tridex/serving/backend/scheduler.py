"""Fair scheduling: requests that need the encoder are served in small units, in turns.

Requests wait here and not in Triton server's queues, which know neither timeouts nor whether a sender is still
connected. A thread takes a unit of work, some texts of one request or of several, encodes it, finishes the requests
that are complete by then, and goes on with the next: a request of many long texts delays others by one unit at most. On
a GPU it takes the next unit while the device works on the one before. A request whose wait would exceed its timeout is
refused at once, so that what is admitted is answered in time; where more is refused than answered, the queue is kept
short (pressure.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import TokenBatch
from tridex.index import is_fault
from tridex.serving.gate import Door, Refused
from tridex.serving.metrics.registry import Gauge
from tridex.serving.metrics.table import QUEUE_WAIT, QUEUED, Stage

from .background import Background
from .pressure import Pressure
from .service import Arrays, ErrorCode, HasSender, RequestError, Sender, abandoned, as_request_error

UNIT_TOKENS = 512
"""Padded tokens of a unit: some 0.1 s of a 6-layer MiniLM on two CPU cores."""

_TOKENS_PER_WEIGHT = 64
"""Of a task of many texts; one of few tokens counts as 1 as well."""

_UNIT_WEIGHT = UNIT_TOKENS // _TOKENS_PER_WEIGHT

_UNIT_TOKENISING_S = 0.05
"""Time spent on tokenising ends a unit, too: a text of 256 KiB takes 0.1 s."""

_MAX_HELD_BYTES = 256 * 2**20
"""Texts of all requests that wait."""

_MAX_HELD_TOKENS = 2**20
"""Token embeddings of incomplete requests, 0.5 GB at 128 dimensions: above it, requests that have begun are completed
one by one."""

_SHARE = 0.9
"""Of a sender's timeout. The rest lets our error, which says more than a timeout, reach the sender."""

_LEAST_PATIENCE_S = 0.25
"""However soon some senders leave, as others may wait longer."""

_SOON_S = 0.5
"""A request that has waited for longer is not refused any more because there are too many."""

_STUCK_S = 60.0

_log = logging.getLogger(__name__)

Encode = Callable[[Sequence[TokenBatch]], list[Any]]
"""Tokens of several texts, [1, tokens] each, to their embeddings, float32 [1, tokens, dim] each."""


Wait = Callable[[], None]
"""Waits for work that a device has begun, and answers the tasks that it is for."""

R = TypeVar("R", bound=HasSender)


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
                f"{most:.2f} s, {why}; retry after {wait_s - most:.2f} s",
            )

    @property
    def requests(self) -> int:
        """Tasks that are not answered yet."""
        return self._weights.total()

    def add(self, task: Task[R]) -> None:
        """A task starts to wait."""
        self._alone = None
        if not self._weights:
            self._last = time.monotonic()
            self._alone = None if task.is_canary else (task, self._last)
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
        task.weight = max(1, task.weight - tokens // _TOKENS_PER_WEIGHT)
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
        shortest_s = wait_s / _SHARE
        if self._pressure.is_long(self.requests, wait_s):
            shortest_s = max(shortest_s, self._pressure.below_s)
        self._door.tell(shortest_s, self._assumed_timeout_s())

    def _look(self) -> None:
        """Asks for what the front ends have refused."""
        self._pressure.refused(self._door.take_refused())
        self._pressure.look()

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
        self._look()

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
        """Takes out the newest tasks, as far as they would be refused if they came now and can be told so soon."""
        over: list[Task[R]] = []
        if not self._pressure.is_on:
            return over
        wait_s, now = self.wait_s(1), time.monotonic()
        for task in reversed(self.waiting):
            if not self._pressure.is_long(self.requests - len(over), wait_s):
                break
            waited_s = now - task.request.sender.arrived_at
            if self._pressure.concerns(self._assumed_timeout_s(task)) and waited_s < _SOON_S and not task.tokens:
                over.append(task)
                wait_s -= self._pace_s * min(task.weight, _UNIT_WEIGHT)
        for task in over:
            self.waiting.remove(task)
        return over

    def surplus(self) -> RequestError:
        """What is told to those of `take_surplus`."""
        return RequestError(
            ErrorCode.OVERLOADED,
            f"more requests are refused than answered at {self.name}, and this one is among the last; retry after "
            f"{_SOON_S:.2f} s",
        )


class _Begun(NamedTuple):
    """Tasks whose work a device has."""

    lane: Lane[Any]
    tasks: list[Task[Any]]
    weight: int
    wait: Wait


class _Unit:
    """Texts that are encoded together."""

    def __init__(self, most_tokens: int) -> None:
        self._most_tokens = most_tokens
        self.rows: list[tuple[Task[Any], TokenBatch]] = []
        self.tokens = 0
        self._began = time.monotonic()

    @property
    def is_full(self) -> bool:
        return self.tokens >= self._most_tokens or time.monotonic() > self._began + _UNIT_TOKENISING_S

    def take_rows(self, task: Task[Any]) -> bool:
        """Takes as many of the task's next rows as there is room for; whether those were the last ones."""
        while not self.is_full:
            row = next(task.rows, None)
            if row is None:
                return True
            self.rows.append((task, row))
            self.tokens += row.input_ids.size
            task.tokens += row.input_ids.size
        return False

    def give_back(self, task: Task[Any]) -> None:
        """Leaves a task's rows out."""
        for other, row in self.rows:
            if other is task:
                self.tokens -= row.input_ids.size
                task.tokens -= row.input_ids.size
        self.rows = [(other, row) for other, row in self.rows if other is not task]

    def encoded(self, began: float) -> None:
        """Adds the time that the unit took to its tasks; it was encoded since `began`."""
        now = time.monotonic()
        tasks = {task for task, _ in self.rows}
        for task in tasks:
            timeline = task.request.sender.timeline
            timeline.add(Stage.TOKENISE, self._began, began, 1 / len(tasks))
            timeline.add(Stage.ENCODE, began, now, 1 / len(tasks))


class Scheduler:
    """Runs the tasks of its lanes on a thread of its own."""

    def __init__(self, encode: Encode, lanes: Sequence[Lane[Any]], unit_tokens: int = UNIT_TOKENS) -> None:
        """`unit_tokens`: padded tokens after which a unit is full."""
        self._encode = encode
        self._unit_tokens = unit_tokens
        self._begun: _Begun | None = None
        self._lanes = lanes
        self._held = 0
        self._tokens = 0
        self._changed = threading.Condition()
        self._thread = Background(
            "schedule", "encodes texts", self._turns, stuck_after_s=_STUCK_S, condition=self._changed
        )
        self._thread.start()

    def submit(self, task: Task[R], lane: Lane[R]) -> Future[Arrays | RequestError]:
        """The task's answer, when there is one. Raises RequestError OVERLOADED where it would come too late."""
        with self._changed:
            if self._thread.closed:
                raise RequestError(ErrorCode.UNAVAILABLE, "the server is stopping")
            lane.check(task)
            if self._held + task.size > _MAX_HELD_BYTES:
                # What is held waits in any lane.
                after_s = max(other.wait_s(task.weight) for other in self._lanes)
                raise RequestError(
                    ErrorCode.OVERLOADED,
                    f"requests that wait hold {self._held} bytes of texts; expected at most {_MAX_HELD_BYTES}; "
                    f"retry after {after_s:.2f} s",
                )
            self._add(task, lane)
        return task.answer

    def together(self) -> AbstractContextManager[object]:
        """A context in which submitted tasks arrive at once: none begins before the last is submitted."""
        return self._changed

    def resubmit(self, task: Task[R], lane: Lane[R]) -> None:
        """Puts back a task that was handed to `finish`, with new rows."""
        with self._changed:
            self._tokens -= task.tokens
            task.tokens = 0
            self._add(task, lane)

    def trouble(self) -> str | None:
        """What keeps tasks from being done, None while nothing does."""
        return self._thread.trouble()

    def gauges(self) -> Iterator[Gauge]:
        """How much waits in each lane."""
        for lane in self._lanes:
            with self._changed:
                requests, wait_s = lane.requests, lane.wait_s(1)
            yield Gauge(QUEUED, (lane.label,), requests)
            yield Gauge(QUEUE_WAIT, (lane.label,), wait_s)

    def close(self) -> None:
        """Ends after the current unit, and refuses the tasks that still wait."""
        self._thread.close()
        self._complete()
        for lane in self._lanes:
            while lane.waiting:
                self._drop(lane, lane.waiting.popleft(), RequestError(ErrorCode.UNAVAILABLE, "the server is stopping"))

    def _add(self, task: Task[R], lane: Lane[R]) -> None:
        lane.add(task)
        lane.waiting.append(task)
        self._held += task.size
        self._thread.wake()

    def _turns(self) -> float | None:
        """A turn for each lane that has work; the seconds until the next."""
        for lane in self._lanes:
            if lane.waiting:
                begun = self._turn(lane)
                if begun or not (self._begun and self._begun.lane.encodes_meanwhile):
                    self._complete()
                    self._begun = begun
        if any(lane.waiting for lane in self._lanes):
            return 0.0
        self._complete()
        return 0.0 if any(lane.waiting for lane in self._lanes) else None

    def _complete(self) -> None:
        """Waits for the work that a device has, and answers its tasks."""
        begun, self._begun = self._begun, None
        if begun:
            self._wait(begun.lane, begun.tasks, begun.wait)
            self._done(begun.lane, begun.tasks, begun.weight)

    def _turn(self, lane: Lane[R]) -> _Begun | None:
        """Does one unit of a lane's work, or begins it on a device."""
        with self._changed:
            left, surplus = lane.take_abandoned(), lane.take_surplus()
        self._drop_all(lane, left, abandoned)
        self._drop_all(lane, surplus, lane.surplus)
        whole: list[Task[R]] = []
        unit = _Unit(self._unit_tokens)
        weight = 0
        while not unit.is_full:
            with self._changed:
                if not lane.waiting or (whole and weight + lane.waiting[0].weight > lane.max_weight):
                    break
                task = lane.waiting.popleft()
            weight += task.weight
            before = unit.tokens
            try:
                if unit.take_rows(task):
                    whole.append(task)
                else:
                    # The rest is done in a later turn, after other tasks.
                    with self._changed:
                        lane.reduce(task, unit.tokens - before)
                        crowded = self._tokens > _MAX_HELD_TOKENS
                        (lane.waiting.appendleft if crowded else lane.waiting.append)(task)
            except BaseException as error:
                if not is_fault(error):
                    raise
                unit.give_back(task)
                failure = as_request_error(error, "a request could not be tokenised", task.request.sender)
                self._drop(lane, task, failure)
        self._tokens += unit.tokens
        tokenised = time.monotonic()
        self._encode_unit(lane, unit.rows, whole)
        unit.encoded(tokenised)
        work = max(sum(task.weight for task in whole), unit.tokens // _TOKENS_PER_WEIGHT)
        left = [task for task in whole if task.request.sender.has_left]
        whole = [task for task in whole if task not in left]
        self._drop_all(lane, left, abandoned)
        if wait := self._finish(lane, whole):
            return _Begun(lane, whole, work, wait)
        self._done(lane, whole, work)
        return None

    def _done(self, lane: Lane[R], tasks: Sequence[Task[R]], weight: int) -> None:
        """Work of this weight is done, and these tasks are answered."""
        with self._changed:
            lane.finished(weight, tasks)
            for task in tasks:
                self._forget(lane, task)

    def _encode_unit(self, lane: Lane[R], unit: Sequence[tuple[Task[R], TokenBatch]], whole: list[Task[R]]) -> None:
        if not unit:
            return
        tasks = list(dict.fromkeys(task for task, _ in unit))
        try:
            embeddings = (lane.encode or self._encode)([row for _, row in unit])
        except BaseException as error:
            if not is_fault(error):
                raise
            failure = as_request_error(error, f"{len(unit)} texts could not be encoded", _only(tasks))
            if len(tasks) > 1:
                for task in tasks:  # each by itself, so that one alone can fail
                    self._encode_unit(lane, [(task, row) for other, row in unit if other is task], whole)
                return
            with self._changed:
                (whole if tasks[0] in whole else lane.waiting).remove(tasks[0])
            self._drop(lane, tasks[0], failure)
            return
        for (task, row), array in zip(unit, embeddings, strict=True):
            task.encoded.append(Encoded(array[0], row.embedding_mask[0]))

    def _finish(self, lane: Lane[R], tasks: list[Task[R]]) -> Wait | None:
        """Answers tasks, or begins to; then what waits for the rest."""
        try:
            return lane.finish(tasks) if tasks else None
        except BaseException as error:
            if not is_fault(error):
                raise
            self._finish_each(lane, tasks, error)
            return None

    def _wait(self, lane: Lane[R], tasks: list[Task[R]], wait: Wait) -> None:
        try:
            wait()
        except BaseException as error:
            if not is_fault(error):
                raise
            self._finish_each(lane, tasks, error)

    def _finish_each(self, lane: Lane[R], tasks: list[Task[R]], error: BaseException) -> None:
        """Finishes the tasks of a failed batch by themselves, so that one alone can fail; one alone has failed."""
        failure = as_request_error(error, f"{len(tasks)} requests could not be answered", _only(tasks))
        left = [task for task in tasks if not task.answer.done() and task not in lane.waiting]
        if len(tasks) == 1 and left:
            left[0].answer.set_result(failure)
            return
        for task in left:
            if wait := self._finish(lane, [task]):
                self._wait(lane, [task], wait)

    def _drop_all(self, lane: Lane[R], tasks: Sequence[Task[R]], reason: Callable[[], RequestError]) -> None:
        for task in tasks:
            self._drop(lane, task, reason())

    def _drop(self, lane: Lane[R], task: Task[R], reason: RequestError) -> None:
        with self._changed:
            self._forget(lane, task)
        task.answer.set_result(reason)

    def _forget(self, lane: Lane[R], task: Task[R]) -> None:
        self._held -= task.size
        self._tokens -= task.tokens
        lane.remove(task)


def _only(tasks: Sequence[Task[Any]]) -> Sender | None:
    """Whose request it is, where it is one's alone."""
    return tasks[0].request.sender if len(tasks) == 1 else None
