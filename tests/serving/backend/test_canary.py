"""What a canary's answers say of a model: wrong ones count, and what only says that it is busy does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from eventually import eventually

from tridex.serving.backend import canary as canary_module
from tridex.serving.backend.canary import Canary, FirstAnswer, WrongAnswerError
from tridex.serving.backend.service import ErrorCode, RequestError

FIRST = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)


class Checked:
    """A service as far as its canary knows it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.asked = 0

    def check(self) -> None:
        self.asked += 1
        if self.error:
            raise self.error

    def ask(self) -> None:
        """Waits until it was asked, and what it answered is known."""
        asked = self.asked
        eventually(lambda: self.asked >= asked + 2)


@pytest.fixture
def service() -> Checked:
    return Checked()


@pytest.fixture
def canary(service: Checked, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canary]:
    monkeypatch.setattr(canary_module, "_EVERY_S", 0.01)
    canary = Canary(service)  # type: ignore[arg-type]
    yield canary
    canary.close()


@pytest.fixture
def first_answer() -> FirstAnswer:
    first_answer = FirstAnswer()
    first_answer.check(FIRST)
    return first_answer


def test_an_answer_may_be_a_little_off(first_answer: FirstAnswer) -> None:
    first_answer.check(FIRST + np.float32(0.02))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (FIRST * np.float32("nan"), "not finite"),
        (FIRST + np.array([np.inf, 0], np.float32), "not finite"),
        (FIRST[:1], r"its shape is \(1, 2\); expected \(2, 2\)"),
        (FIRST[:, ::-1], "away from the first one; expected at most 10%"),
        (0 * FIRST, "its numbers are zeros"),
    ],
)
def test_another_answer_is_refused(first_answer: FirstAnswer, answer: np.ndarray, message: str) -> None:
    with pytest.raises(WrongAnswerError, match=message):
        first_answer.check(answer)
    first_answer.check(FIRST)


@pytest.mark.parametrize("answer", [FIRST * np.float32("nan"), 0 * FIRST])
def test_what_is_no_answer_is_none_at_first_either(answer: np.ndarray) -> None:
    """Later answers are not compared with it."""
    first_answer = FirstAnswer()
    with pytest.raises(WrongAnswerError):
        first_answer.check(answer)
    first_answer.check(FIRST)
    with pytest.raises(WrongAnswerError, match="away from the first one"):
        first_answer.check(-FIRST)


def test_one_wrong_answer_is_trouble_and_several_are_a_failure(service: Checked, canary: Canary) -> None:
    service.ask()
    assert canary.trouble() is None
    service.error = WrongAnswerError("its numbers are not finite")
    eventually(lambda: canary.failure() is not None)
    assert canary.trouble() == canary.failure() == "its canary was answered wrongly: its numbers are not finite"
    service.error = None
    eventually(lambda: canary.trouble() is None and canary.failure() is None)


@pytest.mark.parametrize("code", [ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED, ErrorCode.DEADLINE_EXCEEDED])
def test_a_busy_model_is_not_wrong(service: Checked, canary: Canary, code: ErrorCode) -> None:
    service.error = RequestError(code, "later")
    for _ in range(5):
        service.ask()
    assert canary.trouble() is None and canary.failure() is None


def test_a_canary_that_is_not_answered_is_trouble(service: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_module, "_STUCK_S", 0.1)
    answered = threading.Event()
    monkeypatch.setattr(service, "check", answered.wait)
    canary = Canary(service)  # type: ignore[arg-type]
    try:
        eventually(lambda: "the thread that asks the canary has been stuck" in (canary.trouble() or ""))
        assert canary.failure() is None
        answered.set()
        eventually(lambda: canary.trouble() is None)
    finally:
        answered.set()
        canary.close()


def test_that_a_model_is_busy_does_not_make_up_for_a_wrong_answer(service: Checked, canary: Canary) -> None:
    service.error = RequestError(ErrorCode.INTERNAL, "internal error")
    eventually(lambda: canary.trouble() is not None)
    service.error = RequestError(ErrorCode.OVERLOADED, "later")
    service.ask()
    assert canary.trouble() == "its canary was answered wrongly: internal error"
