"""Answers leave on a thread of their own, while whoever made them gives a GPU the next batch.

Triton server's Python backend waits with each answer until the server's process has taken it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .background import Background

_STUCK_S = 60.0
"""More than the answers that wait can take."""


class Answers:
    """A thread that sends answers, one after the other in the order in which they come."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._thread = Background(
            "answer", "sends answers", self._send_all, stuck_after_s=_STUCK_S, condition=self._changed
        )
        self._thread.start()

    def submit(self, send: Callable[[], None]) -> None:
        """Has `send` called, once; by the caller itself where the thread has ended."""
        with self._changed:
            if not self._thread.closed:
                self._waiting.append(send)
                self._thread.wake()
                return
        send()

    def trouble(self) -> str | None:
        """What keeps answers from being sent, None while nothing does."""
        return self._thread.trouble()

    def close(self) -> None:
        """Sends what waits, and ends the thread."""
        self._thread.close()
        self._send_all()

    def _send_all(self) -> None:
        while self._waiting:
            self._waiting.popleft()()
