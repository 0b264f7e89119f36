"""Fair scheduling: requests that need the encoder are served in small units, in turns.

Requests wait here and not in Triton server's queues, which know neither timeouts nor whether a sender is still
connected. A thread takes a unit of work, some texts of one request or of several, encodes it, finishes the requests
that are complete by then, and goes on with the next: a request of many long texts delays others by one unit at most. On
a GPU it takes the next unit while the device works on the one before. What is refused, a lane decides (lane.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from tridex.encoding import TokenBatch
from tridex.index import is_fault
from tridex.serving.metrics.registry import Gauge
from tridex.serving.metrics.table import QUEUE_WAIT, QUEUED, Stage

from .background import Background
from .lane import TOKENS_PER_WEIGHT, UNIT_TOKENS, Encode, Encoded, Lane, R, Task, Wait, retry_after
from .service import Arrays, ErrorCode, RequestError, Sender, abandoned, as_request_error

_UNIT_TOKENISING_S = 0.05
"""Time spent on tokenising ends a unit, too: a text of 256 KiB takes 0.1 s."""

_MAX_HELD_BYTES = 256 * 2**20
"""Texts of all requests that wait."""

_MAX_HELD_TOKENS = 2**20
"""Token embeddings of incomplete requests, 0.5 GB at 128 dimensions: above it, requests that have begun are completed
one by one."""

_LOOK_S = 0.01
"""How often it is asked, while a queue is long, whether an overload has begun: a unit takes 0.1 s on two CPU cores, too
long for those who are to be refused."""

_STUCK_S = 60.0


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
        self._looking = False
        """Whether the watch looks again by itself."""
        self._watch = Background("watch", "looks for overload", self._look)
        self._watch.start()

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
                    f"{retry_after(after_s)}",
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
        return self._thread.trouble() or self._watch.trouble()

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
        self._watch.close()
        self._complete()
        for lane in self._lanes:
            while lane.waiting:
                self._drop(lane, lane.waiting.popleft(), RequestError(ErrorCode.UNAVAILABLE, "the server is stopping"))

    def _add(self, task: Task[R], lane: Lane[R]) -> None:
        lane.add(task)
        lane.waiting.append(task)
        self._held += task.size
        self._thread.wake()
        if not self._looking and lane.is_piling_up:
            self._looking = True
            self._watch.wake()

    def _look(self) -> float | None:
        """Refuses what an overload leaves no room for, while a unit is under way; the seconds until the next look."""
        with self._changed:
            piling_up = [lane for lane in self._lanes if lane.is_piling_up]
            self._looking = bool(piling_up)
        for lane in piling_up:
            self._refuse_surplus(lane)
        return _LOOK_S if piling_up else None

    def _refuse_surplus(self, lane: Lane[Any]) -> None:
        with self._changed:
            surplus = lane.take_surplus()
        self._drop_all(lane, surplus, lane.surplus)

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
            left = lane.take_abandoned()
        self._drop_all(lane, left, abandoned)
        self._refuse_surplus(lane)
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
        with self._changed:
            self._tokens += unit.tokens
        tokenised = time.monotonic()
        self._encode_unit(lane, unit.rows, whole)
        unit.encoded(tokenised)
        work = max(sum(task.weight for task in whole), unit.tokens // TOKENS_PER_WEIGHT)
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
