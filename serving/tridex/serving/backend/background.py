"""Background threads that survive every exception, and know when they are stuck."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable

from . import device_failure

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
"""Between turns that fail: the first, doubled up to this."""

_STUCK_S = 30.0

_log = logging.getLogger(__name__)


class Background:
    """A thread that takes turns at one job until it is closed, whatever a turn raises.

    `turn` returns the seconds until the next turn, None to wait for `wake` alone. Where it raises, the error is logged,
    once as long as it stays the same, and the turn is repeated after a pause that grows. A panic in Lance is no
    Exception, and nothing else may end the thread either, so everything is caught.

    `does` completes "the thread that"; `stuck_after_s` is more than a good turn can take. A notification of
    `condition` wakes the thread, too.
    """

    def __init__(
        self,
        name: str,
        does: str,
        turn: Callable[[], float | None],
        *,
        stuck_after_s: float = _STUCK_S,
        condition: threading.Condition | None = None,
    ) -> None:
        self._does = does
        self._turn = turn
        self._stuck_after_s = stuck_after_s
        self._condition = condition or threading.Condition()
        self._woken = False
        self._closed = threading.Event()
        self._since: float | None = None
        """When the turn began that has not ended well yet, or the first of several."""
        self._last: str | None = None
        """What the last turn ended with, where it did not end well."""
        self._thread = threading.Thread(target=self._run, name=f"tridex-{name}", daemon=True)

    def start(self) -> None:
        """Begins with a turn."""
        self._thread.start()

    @property
    def closed(self) -> bool:
        """For a long turn, to end early."""
        return self._closed.is_set()

    def wake(self) -> None:
        """Starts the next turn at once, or right after the current one."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def trouble(self) -> str | None:
        """What keeps the job from being done, None while it is done."""
        since, last = self._since, self._last
        if not self._thread.is_alive() and not self.closed:
            return f"the thread that {self._does} has ended"
        if since is None or (stuck := time.monotonic() - since) < self._stuck_after_s:
            return None
        return f"the thread that {self._does} has been stuck for {stuck:.0f} s{f' ({last})' if last else ''}"

    def close(self, *, join: bool = True) -> None:
        """Ends the thread after the current turn; with `join`, waits for that."""
        self._closed.set()
        self.wake()
        if join and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        pause: float | None = 0.0
        failures = 0
        errors = LoggedErrors()
        while True:
            with self._condition:
                if not self._woken and not self.closed:
                    self._condition.wait(pause)
                self._woken = False
            if self.closed:
                return
            if self._since is None:
                self._since = time.monotonic()
            try:
                pause = self._turn()
                failures = 0
                self._since = self._last = None
                errors.resolved(self._does)
            except BaseException as error:
                self._last = f"{type(error).__name__}: {error}"
                errors.log(self._does, error, f"the thread that {self._does} failed; it goes on trying")
                # Not the condition: each notification would make it fail again at once.
                self._closed.wait(min(_FIRST_PAUSE_S * 2 ** min(failures, 10), _LONGEST_PAUSE_S))
                pause, failures = 0.0, failures + 1


class LoggedErrors:
    """Logs each error once, until it is resolved or another one takes its place."""

    def __init__(self) -> None:
        self._logged: dict[Hashable, str] = {}

    def log(self, about: Hashable, error: BaseException, message: str, *, trace: bool = True) -> None:
        """Logs the message with the error, and its traceback where wanted."""
        device_failure.note(error)
        words = f"{type(error).__name__}: {error}"
        if self._logged.get(about) == words:
            return
        self._logged[about] = words
        _log.error("%s (%s)", message, words, exc_info=error if trace else None)

    def resolved(self, about: Hashable) -> None:
        """The error is gone, so that it would be logged again."""
        self._logged.pop(about, None)
