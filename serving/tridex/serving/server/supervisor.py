"""Keeps a server running: watches it, and replaces it when it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Generic, Protocol, TypeVar

_LOOK_S = 0.2
_SOON_S = 60.0
"""A server that fails within this time after it was ready may fail again at once, so the next start waits."""
_LONGEST_WAIT_S = 30.0


class Server(Protocol):
    """What is watched, while it runs."""

    def failure(self) -> str | None:
        """Why another has to take its place, where it has to."""
        ...

    def trouble(self) -> str | None:
        """Why it is not ready, where it is not."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Ends it when it has answered what is under way."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


S = TypeVar("S", bound=Server)


class Supervisor(Generic[S]):
    """The thread that launches a server and its successors, and lives until it is asked to stop.

    `launch` returns a server that is ready, or raises; None where the event that it is given was set meanwhile.
    `notify` takes a sentence for the operator.
    """

    def __init__(
        self,
        launch: Callable[[threading.Event], S | None],
        notify: Callable[[str], None],
        stop_timeout_s: float,
    ) -> None:
        self.server: S | None = None
        """None while there is none."""
        self.restarts = 0
        """Servers that had to take the place of another."""
        self._launch = launch
        self._notify = notify
        self._stop_timeout_s = stop_timeout_s
        self._healthy = False
        self._stopping = threading.Event()
        self._started: futures.Future[None] = futures.Future()
        # Waited for instead of the thread: Python 3.11 takes a thread for ended when its join is interrupted.
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tridex-supervisor", daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether a server runs, is not in trouble, and is not to stop."""
        return self._healthy and not self._stopping.is_set()

    def start(self) -> None:
        """Returns when the server is ready. Raises what the first launch raises; later ones are tried again."""
        self._thread.start()
        _wait_for(lambda limit_s: bool(futures.wait([self._started], limit_s).done))
        self._started.result()

    def begin_to_stop(self) -> None:
        """Turns readiness false; the thread ends the server."""
        self._stopping.set()

    def stop(self) -> None:
        """Returns when the server has ended."""
        self.begin_to_stop()
        self.wait()

    def wait(self) -> None:
        """Returns when the server was stopped."""
        _wait_for(self._ended.wait)

    def _run(self) -> None:
        try:
            self.server = self._launch(self._stopping)
        except BaseException as error:
            self._started.set_exception(error)
        else:
            self._started.set_result(None)
            self._supervise()
        finally:
            self._ended.set()

    def _supervise(self) -> None:
        failures = 0
        while self.server is not None:
            began = time.monotonic()
            failure = self._watch(self.server)
            self._healthy = False
            if failure is None:
                self._end(self.server)
                return
            self._kill(self.server)
            self.server = None
            failures = failures + 1 if time.monotonic() - began < _SOON_S else 0
            self.server = self._launch_another(failure, failures)

    def _watch(self, server: S) -> str | None:
        """Why it has failed; None when it is to stop."""
        trouble: str | None = None
        self._healthy = True
        while not self._stopping.wait(_LOOK_S):
            before = trouble
            try:
                if failure := server.failure():
                    return failure
                trouble = server.trouble()
            except Exception as error:  # such as no file descriptor left to look with
                trouble = f"it cannot be watched: {error!r}"
            self._healthy = trouble is None
            if trouble and not before:
                self._notify(f"not ready: {trouble}")
            elif before and not trouble:
                self._notify("ready again")
        return None

    def _launch_another(self, failure: str, failures: int) -> S | None:
        """None when it is to stop. `failures` are those that followed a start soon, in a row."""
        while True:
            wait_s = min(2.0 ** (failures - 1), _LONGEST_WAIT_S) if failures else 0.0
            self._notify(f"{failure}; starting the server again" + (f" in {wait_s:.0f} s" if wait_s else ""))
            if self._stopping.wait(wait_s):
                return None
            try:
                server = self._launch(self._stopping)
            except Exception as error:
                failure, failures = str(error), failures + 1
                continue
            if server:
                self.restarts += 1
                self._notify("ready again")
            return server

    def _end(self, server: S) -> None:
        try:
            server.stop(self._stop_timeout_s)
        except Exception as error:
            self._notify(f"could not stop as it should: {error!r}")
            self._kill(server)

    def _kill(self, server: S) -> None:
        try:
            server.kill()
        except Exception as error:
            self._notify(f"could not be killed: {error!r}")


def _wait_for(is_over: Callable[[float], bool]) -> None:
    """Waits in pieces: a signal that the system hands to another thread does not end the main thread's wait, and only
    the main thread runs Python's handlers. SIGTERM was lost so at 3 of 7 stops on a busy machine."""
    while not is_over(_LOOK_S):
        pass
