"""The scheduler: small units, each request in its turn, nothing done for those who left, refusals at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from eventually import eventually
from numpy.typing import NDArray

from tridex.client import Overloaded
from tridex.encoding import TokenBatch
from tridex.serving.backend import lane as lanes
from tridex.serving.backend import pressure as pressures
from tridex.serving.backend import scheduler
from tridex.serving.backend.lane import UNIT_TOKENS, Lane, Task
from tridex.serving.backend.scheduler import Scheduler
from tridex.serving.backend.service import ErrorCode, Request, RequestError, Sender, invalid
from tridex.serving.gate import Door


def row(tokens: int, token_id: int = 1) -> TokenBatch:
    return TokenBatch(*(np.full((1, tokens), value, np.int64) for value in (token_id, 1, 1)))


class Encoder:
    """Remembers the first token of every text of every call; waits for `go_on`, and fails where a token is 666."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, rows: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        self.calls.append([int(one.input_ids[0, 0]) for one in rows])
        assert self.go_on.wait(30)
        if 666 in self.calls[-1]:
            raise RuntimeError("/a/path/that/callers/must/not/see")
        return [np.repeat(one.input_ids[..., None], 4, axis=2).astype(np.float32) for one in rows]

    def under_way(self, calls: int) -> None:
        """Waits until it was called so often."""
        until = time.monotonic() + 10
        while len(self.calls) < calls:
            assert time.monotonic() < until
            time.sleep(0.001)


def finish(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.answer.set_result({"TEXTS": len(task.encoded), "SUM": sum(one.scoring.sum() for one in task.encoded)})


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def lane() -> Lane:
    return Lane(finish, name="a test", label="search", default_wait_s=5.0, max_weight=64)


@pytest.fixture
def running(encoder: Encoder, lane: Lane) -> Iterator[Scheduler]:
    running = Scheduler(encoder, [lane])
    yield running
    encoder.go_on.set()
    running.close()


def task(*tokens: int, token_id: int = 1, request: Request | None = None, weight: int = 1, size: int = 0) -> Task:
    return Task(request or Request({}), (row(count, token_id) for count in tokens), weight, size)


def test_a_long_request_holds_up_others_for_a_unit(running: Scheduler, encoder: Encoder, lane: Lane) -> None:
    encoder.go_on.clear()
    long = running.submit(task(*[UNIT_TOKENS] * 5, token_id=1), lane)
    encoder.under_way(1)
    short = running.submit(task(16, token_id=2), lane)
    encoder.go_on.set()
    assert short.result(10)["TEXTS"] == 1  # type: ignore[index]
    assert long.result(10) == {"TEXTS": 5, "SUM": 5 * UNIT_TOKENS * 4}
    # One unit was under way when the short one came, and one stood before it.
    assert next(i for i, call in enumerate(encoder.calls) if 2 in call) <= 2


def test_what_comes_together_is_encoded_together(running: Scheduler, encoder: Encoder, lane: Lane) -> None:
    encoder.go_on.clear()
    first = running.submit(task(16), lane)
    encoder.under_way(1)
    others = [running.submit(task(16, token_id=2 + i), lane) for i in range(10)]
    encoder.go_on.set()
    assert [answer.result(10)["TEXTS"] for answer in (first, *others)] == [1] * 11  # type: ignore[index]
    assert encoder.calls == [[1], list(range(2, 12))]


def test_nothing_is_done_for_those_who_left(running: Scheduler, encoder: Encoder, lane: Lane) -> None:
    encoder.go_on.clear()
    running.submit(task(16), lane)
    encoder.under_way(1)
    gone = running.submit(task(16, token_id=2, request=Request({}, sender=Sender(is_cancelled=lambda: True))), lane)
    late = running.submit(task(16, token_id=3, request=Request({}, sender=Sender(0.01))), lane)
    time.sleep(0.02)
    encoder.go_on.set()
    for answer in (gone, late):
        refused = answer.result(10)
        assert isinstance(refused, RequestError) and refused.code is ErrorCode.DEADLINE_EXCEEDED
    assert encoder.calls == [[1]]


def test_whoever_would_wait_too_long_is_refused_at_once(running: Scheduler, encoder: Encoder, lane: Lane) -> None:
    slow = threading.Timer(0.2, encoder.go_on.set)
    encoder.go_on.clear()
    slow.start()
    running.submit(task(16), lane).result(10)
    encoder.go_on.clear()
    for _ in range(10):  # of 0.2 s each, as the first one was
        running.submit(task(16), lane)
    with pytest.raises(
        RequestError, match=r"requests are before this one at a test, some \d+\.\d+ s; expected at most 0\.90 s"
    ) as no:
        running.submit(task(16, request=Request({}, sender=Sender(1.0))), lane)
    assert no.value.code is ErrorCode.OVERLOADED
    patient = running.submit(task(16, request=Request({}, sender=Sender(60.0))), lane)
    encoder.go_on.set()
    assert not isinstance(patient.result(10), RequestError)
    # The queue is empty again, and so is its estimate.
    assert not isinstance(
        running.submit(task(16, request=Request({}, sender=Sender(1.0))), lane).result(10), RequestError
    )


def test_the_gate_is_told_what_the_smallest_request_would_be_told(encoder: Encoder) -> None:
    told: list[tuple[float, float]] = []
    door = Door()
    door.tell = lambda *state: told.append(state)  # type: ignore[method-assign]
    lane = Lane(
        finish,
        name="a test",
        label="search",
        default_wait_s=1.0,
        max_weight=64,
        door=door,
    )
    running = Scheduler(encoder, [lane])
    encoder.go_on.clear()
    threading.Timer(0.2, encoder.go_on.set).start()
    running.submit(task(16), lane).result(10)
    eventually(lambda: told[-1][0] == 0.0)
    encoder.go_on.clear()
    for _ in range(10):  # of 0.2 s each, as the first one was
        running.submit(task(16, request=Request({}, sender=Sender(60.0))), lane)
    shortest_s, assumed_s = told[-1]
    assert shortest_s > assumed_s > 1
    with pytest.raises(RequestError):
        running.submit(task(16, request=Request({}, sender=Sender(0.99 * shortest_s))), lane)
    running.submit(task(16, request=Request({}, sender=Sender(1.01 * shortest_s))), lane)
    encoder.go_on.set()
    running.close()
    assert told[-1][0] == 0.0


def test_a_queue_that_no_request_made_long_is_watched(
    running: Scheduler, encoder: Encoder, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose pace has become slower, or one from before an overload that is over."""
    encoder.go_on.clear()
    first = running.submit(task(16), lane)
    encoder.under_way(1)
    looked = threading.Event()
    monkeypatch.setattr(lane, "take_surplus", lambda: looked.set() or [])
    monkeypatch.setattr(Lane, "is_piling_up", True)
    second = running.submit(task(16), lane)
    assert looked.wait(10), "while a unit is under way"
    monkeypatch.setattr(Lane, "is_piling_up", False)
    encoder.go_on.set()
    assert [answer.result(10)["TEXTS"] for answer in (first, second)] == [1, 1]  # type: ignore[index]


def test_of_an_overload_a_short_queue_is_kept(
    running: Scheduler, encoder: Encoder, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_SOON_S", 1e9)  # however slow this machine is
    monkeypatch.setattr(pressures, "_BURST_S", 0.0)
    encoder.go_on.clear()
    threading.Timer(0.2, encoder.go_on.set).start()
    running.submit(task(16), lane).result(10)
    encoder.go_on.clear()
    first = running.submit(task(16), lane)
    encoder.under_way(2)
    admitted, refused = [], 0
    patient = running.submit(task(16, request=Request({}, sender=Sender(1000.0))), lane)
    while refused < 3:
        try:
            admitted.append(running.submit(task(16, request=Request({}, sender=Sender(60.0))), lane))
        except RequestError as error:
            why = str(error)
            assert "by its timeout" in why or (refused and "as more are refused than answered" in why)
            refused += 1
    later = running.submit(task(16, request=Request({}, sender=Sender(1000.0))), lane)
    assert len(admitted) > 10
    assert isinstance(admitted[-1].result(10), RequestError), "while a unit is under way"
    encoder.go_on.set()
    for answer in (first, patient, later):
        assert not isinstance(answer.result(10), RequestError)
    ends = [answer.result(10) for answer in admitted]
    surplus = [end for end in ends if isinstance(end, RequestError)]
    assert surplus == ends[-len(surplus) :], "the newest"
    for end in surplus:
        assert end.code is ErrorCode.OVERLOADED and Overloaded(str(end)).retry_after_s == lanes._SOON_S
    assert len({id(end) for end in surplus}) == len(surplus), "each has an error of its own"
    again = running.submit(task(16, request=Request({}, sender=Sender(60.0))), lane)
    assert again.result(10)["TEXTS"] == 1  # type: ignore[index]


def test_a_canary_does_not_say_how_long_a_lone_request_takes(running: Scheduler, lane: Lane) -> None:
    canary = task(16)
    canary.is_canary = True
    running.submit(canary, lane).result(10)
    eventually(lambda: lane.requests == 0)
    assert lane._pressure.short_wait_s == math.inf
    running.submit(task(16), lane).result(10)
    eventually(lambda: lane._pressure.short_wait_s < math.inf)


def test_what_its_sender_left_while_it_was_encoded_is_not_finished(encoder: Encoder) -> None:
    finished: list[Task] = []

    def note(tasks: Sequence[Task]) -> None:
        finished.extend(tasks)
        finish(tasks)

    lane = Lane(note, name="a test", label="search", default_wait_s=5.0, max_weight=64)
    running = Scheduler(encoder, [lane])
    left = threading.Event()
    encoder.go_on.clear()
    answer = running.submit(task(16, request=Request({}, sender=Sender(is_cancelled=left.is_set))), lane)
    encoder.under_way(1)
    left.set()
    encoder.go_on.set()
    end = answer.result(10)
    running.close()
    assert isinstance(end, RequestError) and end.code is ErrorCode.DEADLINE_EXCEEDED
    assert not finished and lane.requests == 0


def test_a_long_request_keeps_no_short_one_out(encoder: Encoder, lane: Lane) -> None:
    def slowly(rows: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        time.sleep(0.01)
        return encoder(rows)

    running = Scheduler(slowly, [lane])
    try:
        long = [UNIT_TOKENS] * 300
        running.submit(task(*long, weight=8 * len(long)), lane)
        encoder.under_way(30)  # while nobody else is there
        for _ in range(5):
            short = running.submit(task(16, request=Request({}, sender=Sender(1.0))), lane)
            assert not isinstance(short.result(10), RequestError)
        with pytest.raises(RequestError, match=r"expected at most 0\.90 s"):
            running.submit(task(*long, weight=8 * len(long), request=Request({}, sender=Sender(1.0))), lane)
    finally:
        running.close()


def test_those_who_say_no_timeout_teach_how_long_they_wait(running: Scheduler, encoder: Encoder, lane: Lane) -> None:
    encoder.go_on.clear()
    running.submit(task(16), lane)
    encoder.under_way(1)
    running.submit(task(16, request=Request({}, sender=Sender(is_cancelled=lambda: True))), lane)
    time.sleep(0.1)
    encoder.go_on.set()
    running.submit(task(16), lane).result(10)
    assert 0.05 <= lane.patience_s < 1.0


@pytest.mark.parametrize("bad", [invalid("input X is bad"), RuntimeError("/a/path/that/callers/must/not/see")])
def test_a_text_that_cannot_be_tokenised_fails_alone(
    running: Scheduler, encoder: Encoder, lane: Lane, bad: Exception
) -> None:
    def rows() -> Iterator[TokenBatch]:
        yield row(16, 666)
        raise bad

    encoder.go_on.clear()
    running.submit(task(16), lane)
    encoder.under_way(1)
    refused = running.submit(Task(Request({}), rows()), lane)
    good = running.submit(task(16, token_id=2), lane)
    encoder.go_on.set()
    assert good.result(10)["TEXTS"] == 1  # type: ignore[index]
    error = refused.result(10)
    assert isinstance(error, RequestError) and "path" not in str(error)
    assert encoder.calls == [[1], [2]]


def test_an_encoder_that_fails_ends_nothing(running: Scheduler, lane: Lane) -> None:
    failed = running.submit(task(16, token_id=666), lane).result(10)
    assert isinstance(failed, RequestError) and failed.code is ErrorCode.INTERNAL
    assert "internal error (RuntimeError)" in str(failed) and "path" not in str(failed)
    assert not isinstance(running.submit(task(16), lane).result(10), RequestError)
    assert running.trouble() is None


def test_an_encoding_that_fails_fails_alone(running: Scheduler, encoder: Encoder, lane: Lane) -> None:
    encoder.go_on.clear()
    running.submit(task(16), lane)
    encoder.under_way(1)
    answers = [running.submit(task(16, token_id=number), lane) for number in (2, 666, 3)]
    encoder.go_on.set()
    assert [isinstance(answer.result(10), RequestError) for answer in answers] == [False, True, False]


def test_an_answer_that_fails_fails_alone(encoder: Encoder) -> None:
    def finish_even(tasks: Sequence[Task]) -> None:
        for one in tasks:
            if len(one.encoded) % 2:
                raise ValueError("/a/path/that/callers/must/not/see")
            one.answer.set_result({})

    lane = Lane(finish_even, name="a test", label="search", default_wait_s=5.0, max_weight=64)
    running = Scheduler(encoder, [lane])
    try:
        encoder.go_on.clear()
        running.submit(task(16), lane)
        encoder.under_way(1)
        answers = [running.submit(task(*[16] * texts), lane) for texts in (2, 3, 4, 1, 6)]
        encoder.go_on.set()
        ends = [answer.result(10) for answer in answers]
        assert [isinstance(end, RequestError) for end in ends] == [False, True, False, True, False]
        assert "internal error (ValueError)" in str(ends[1]) and "path" not in str(ends[1])
    finally:
        running.close()


def test_what_waits_has_a_bound(
    running: Scheduler, encoder: Encoder, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_MAX_HELD_BYTES", 1000)
    encoder.go_on.clear()
    threading.Timer(0.2, encoder.go_on.set).start()
    running.submit(task(16), lane).result(10)
    eventually(lambda: lane.requests == 0)
    encoder.go_on.clear()
    held = running.submit(task(16, size=900), lane)
    with pytest.raises(
        RequestError, match="requests that wait hold 900 bytes of texts; expected at most 1000; retry after"
    ) as no:
        running.submit(task(16, size=200), lane)
    assert Overloaded(str(no.value)).retry_after_s > 0
    encoder.go_on.set()
    held.result(10)
    assert not isinstance(running.submit(task(16, size=200), lane).result(10), RequestError)


def test_closing_refuses_what_waits(encoder: Encoder, lane: Lane) -> None:
    running = Scheduler(encoder, [lane])
    encoder.go_on.clear()
    first = running.submit(task(16), lane)
    encoder.under_way(1)
    second = running.submit(task(16), lane)
    threading.Timer(0.1, encoder.go_on.set).start()
    running.close()
    assert not isinstance(first.result(10), RequestError)
    refused = second.result(10)
    assert isinstance(refused, RequestError) and refused.code is ErrorCode.UNAVAILABLE
    with pytest.raises(RequestError, match="the server is stopping"):
        running.submit(task(16), lane)


def test_a_unit_is_begun_while_a_device_works_on_the_one_before(encoder: Encoder) -> None:
    """As on a GPU: a batch is answered when the next is begun, or at once where none is waiting."""
    events: list[str] = []

    def begin(tasks: Sequence[Task]) -> Callable[[], None]:
        name = str(encoder.calls[-1])
        events.append(f"begin {name}")

        def wait() -> None:
            events.append(f"end {name}")
            if encoder.calls[0] == [1] and name == "[2]":
                raise ValueError("the device failed")
            finish(tasks)

        return wait

    lane = Lane(begin, name="a test", label="search", default_wait_s=5.0, max_weight=1)
    running = Scheduler(encoder, [lane])
    encoder.go_on.clear()
    first = running.submit(task(16), lane)
    encoder.under_way(1)
    second, third = (running.submit(task(16, token_id=token_id), lane) for token_id in (2, 3))
    encoder.go_on.set()
    failed = second.result(10)
    assert isinstance(failed, RequestError) and failed.code is ErrorCode.INTERNAL
    assert [answer.result(10)["TEXTS"] for answer in (first, third)] == [1, 1]  # type: ignore[index]
    running.close()
    assert events == ["begin [1]", "begin [2]", "end [1]", "begin [3]", "end [2]", "end [3]"]
    assert lane.requests == 0
