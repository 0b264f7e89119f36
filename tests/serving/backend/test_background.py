"""A background thread goes on whatever its turns raise, says each trouble once, and knows when it is stuck."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle, pairwise

import pytest
from eventually import eventually
from faults import OF_LANCE, Trouble

from tridex.serving.backend.background import Background


@pytest.fixture
def run() -> Iterator[Callable[..., Background]]:
    threads: list[Background] = []

    def start(turn: Callable[[], float | None], **options: object) -> Background:
        thread = Background("test", "does a test's work", turn, **options)  # type: ignore[arg-type]
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.close()


@pytest.mark.parametrize("trouble", [*OF_LANCE, SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit])
def test_it_survives_anything_and_says_it_once(
    run: Callable[..., Background], trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    turns = []

    def turn() -> float:
        turns.append(time.monotonic())
        if len(turns) in (2, 3, 4):
            raise trouble()
        return 0.001

    with caplog.at_level(logging.ERROR):
        thread = run(turn)
        eventually(lambda: len(turns) > 6)
    assert thread.trouble() is None
    assert caplog.text.count("the thread that does a test's work failed; it goes on trying") == 1
    pauses = [after - before for before, after in pairwise(turns)]
    assert pauses[1] >= 0.05 and pauses[2] >= 0.1 and pauses[3] >= 0.2, "they grow"


def test_one_that_is_stuck_or_fails_all_the_time_says_so(run: Callable[..., Background]) -> None:
    go_on = threading.Event()
    stuck = run(lambda: go_on.wait() and None, stuck_after_s=0.1)

    def fail() -> None:
        raise OSError(5, "Input/output error")

    failing = run(fail, stuck_after_s=0.1)
    eventually(lambda: stuck.trouble() and failing.trouble())
    assert str(stuck.trouble()).startswith("the thread that does a test's work has been stuck for 0 s")
    assert "(OSError: [Errno 5] Input/output error)" in str(failing.trouble())
    go_on.set()
    eventually(lambda: stuck.trouble() is None)
    assert failing.trouble()


def test_each_trouble_is_told_when_it_comes(run: Callable[..., Background], caplog: pytest.LogCaptureFixture) -> None:
    troubles = cycle([OSError("one"), OSError("one"), OSError("other"), None])
    turns = []

    def turn() -> float | None:
        turns.append(1)
        if trouble := next(troubles):
            raise trouble
        return 0.001 if len(turns) < 8 else None

    with caplog.at_level(logging.ERROR):
        run(turn)
        eventually(lambda: len(turns) == 8)
    assert caplog.text.count("(OSError: one)") == caplog.text.count("(OSError: other)") == 2


def test_it_is_woken_and_closed(run: Callable[..., Background]) -> None:
    turns = []
    thread = run(lambda: turns.append(1))
    eventually(lambda: turns)
    time.sleep(0.05)
    assert len(turns) == 1
    thread.wake()
    eventually(lambda: len(turns) == 2)
    thread.close()
    thread.wake()
    time.sleep(0.05)
    assert len(turns) == 2 and thread.trouble() is None
