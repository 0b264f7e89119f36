"""Answers leave in their order on a thread of their own, and none is lost at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tridex.serving.backend.answers import Answers

WITHIN_S = 60.0


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.close()


class Blocked:
    """An answer that is on its way until it may arrive."""

    def __init__(self) -> None:
        self.began, self.may_arrive = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.may_arrive.wait(WITHIN_S)


def test_whoever_made_them_goes_on_and_they_leave_in_order(answers: Answers) -> None:
    first, sent, last = Blocked(), list[int](), threading.Event()

    def sends(i: int) -> Callable[[], None]:
        return lambda: sent.append(i)

    answers.submit(first)
    assert first.began.wait(WITHIN_S)
    for i in range(20):
        answers.submit(sends(i))
    answers.submit(last.set)
    assert sent == []  # All are submitted, and none has left: the first is on its way.
    first.may_arrive.set()
    assert last.wait(WITHIN_S)
    assert sent == list(range(20))


def test_one_that_fails_costs_no_other(answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise SystemExit("not today")

    last = threading.Event()
    answers.submit(fails)
    answers.submit(last.set)
    assert last.wait(WITHIN_S)
    assert "the thread that sends answers failed" in caplog.text


def test_at_the_end_all_are_sent() -> None:
    answers, first, sent = Answers(), Blocked(), list[str]()
    answers.submit(first)
    answers.submit(lambda: sent.append("behind it"))
    assert first.began.wait(WITHIN_S)
    closing = threading.Thread(target=answers.close)
    closing.start()
    first.may_arrive.set()
    closing.join(WITHIN_S)
    assert sent == ["behind it"]
    answers.submit(lambda: sent.append("after it"))
    assert sent == ["behind it", "after it"]
