"""A tritonserver process with its models' processes, from start to end."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import psutil

from tridex.serving.gate import NEEDING, GateLane
from tridex.serving.run_folder import Report, RunFolder, Silence

from .errors import ServerError
from .leftovers import remove_shared_memory

_CHILD = Path(__file__).with_name("child.py")
_STUB = "triton_python_backend_stub"

_LOOK_S = 0.1
_SILENT_S = 1.7
"""A model's process that is silent for this long is not ready: with a look every 0.2 s, that is seen within 2 s."""
_AWAITED_S = 5.0
"""One that is silent for this long while callers wait for it is replaced: they are told nothing until then.
Also tritonserver itself, with which all wait."""
_STUCK_S = 20.0
"""One for which nobody waits is replaced later: where it was starved of its processor, it goes on."""
_ASK_EVERY_S = 0.5
_ASK_S = 1.0
"""How long tritonserver's answer may take to whether it is ready."""
_SETTLED_S = 0.2
_GONE_S = 5.0
_POLL_S = 0.02


class TritonProcess:
    """A running tritonserver; `address` is where it answers over HTTP.

    Made by a thread that lives at least as long: the kernel ends tritonserver when the thread that made it ends.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        log: int,
        run: RunFolder,
        address: tuple[str, int],
        memory_prefix: str,
    ) -> None:
        self.run = run
        self._memory_prefix = memory_prefix
        self._stubs: dict[psutil.Process, str] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid()), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # What models write is for the owner alone.
            umask=0o077,
            # A group of its own: a Ctrl-C reaches the launcher alone, and the models' processes end with the group.
            start_new_session=True,
        )
        self._readiness = _Readiness(*address)
        self._silence = Silence()

    @property
    def pid(self) -> int:
        """tritonserver's process id."""
        return self._process.pid

    def processes(self) -> dict[str, int]:
        """The process ids of tritonserver and of its models, by what they are."""
        return {"tritonserver": self.pid, **{report.model: report.pid for report in self.run.reports()}}

    def wait_until_ready(self, timeout_s: float, cancelled: threading.Event) -> bool:
        """Returns when every model is ready, or, with False, when it is cancelled. Raises ServerError."""
        deadline = time.monotonic() + timeout_s
        while not cancelled.wait(_LOOK_S):
            if (status := self._process.poll()) is not None:
                raise ServerError(f"tritonserver ended with status {status} while starting.")
            if self._readiness.ask():
                if not self.run.gate.is_guarded:
                    raise ServerError("tritonserver runs without its guard, which the loader has not loaded.")
                self._stubs = _stubs(self.pid)
                self.run.serve()
                return True
            if time.monotonic() > deadline:
                raise ServerError(f"tritonserver was not ready after {timeout_s:.0f} s.")
        return False

    def failure(self) -> str | None:
        """Why another server has to take the place of this one, where it has to: a process died or is stuck, or its GPU
        failed."""
        if (status := self._process.poll()) is not None:
            return f"tritonserver ended with status {status}"
        for stub, model in self._stubs.items():
            if not _lives(stub):
                return f"model {model}: its process {stub.pid} died"
        if self.run.gate.has_given_up:
            return "a model's process did not take a request for a second"
        self._silence.look()
        for report in self.run.reports():
            if report.failure:
                return f"model {report.model}: {report.failure}"
            most_s = _AWAITED_S if self._is_awaited(report) else _STUCK_S
            if self._silence.since(report.at_s) > most_s:
                return f"model {report.model}: its process {report.pid} said nothing for {most_s:.0f} s"
        if self._silence.since(self._readiness.answered_s) > _AWAITED_S:
            return f"tritonserver said nothing for {_AWAITED_S:.0f} s"
        return None

    def _is_awaited(self, report: Report) -> bool:
        """Whether callers may wait for the process: it works on requests, or some have come since it said so."""
        return report.in_flight > 0 or self.run.gate.let_through_s(_lanes(report.model)) > report.at_s

    def trouble(self) -> str | None:
        """Why this server is not ready, where it is not, although all its processes live.

        What a process that is stuck would have to answer, the front ends refuse until it goes on.
        """
        reports = self.run.reports()
        silent = [report for report in reports if self._silence.since(report.at_s) > _SILENT_S]
        stuck = [*silent, *(report for report in reports if report.stuck)]
        self.run.gate.shut({lane for report in stuck for lane in _lanes(report.model)})
        for report in silent:
            return f"model {report.model}: its process {report.pid} is stuck"
        for report in reports:
            if report.trouble:
                return f"model {report.model}: {report.trouble}"
        if time.monotonic() - self._readiness.asked_s > _ASK_EVERY_S:
            self._readiness.ask()
        if not self._readiness.is_ready:
            return "tritonserver is not ready"
        return None

    def stop(self, timeout_s: float) -> None:
        """Answers requests in flight, refuses new ones, closes the services, and ends all processes.

        They end by SIGKILL: on SIGTERM, Triton server unloads its models while it still answers, and clients would be
        told that there is no such model, where those of a server that stops should retry.
        """
        deadline = time.monotonic() + timeout_s
        self.run.drain()
        self._wait(self.run.idle, deadline)
        self.run.close_services()
        self._wait(self.run.closed, deadline)
        self.kill()

    def kill(self) -> None:
        """Ends all processes at once, and returns when they are gone, with what they had in memory and in /tmp."""
        deadline = time.monotonic() + _GONE_S
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._readiness.close()
        while _runs(self.pid) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(_POLL_S)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:  # where the launcher is process 1, orphans are its children
                pass
        remove_shared_memory(self._memory_prefix)
        # The next server shares nothing with this one, such as the encoder's weights, which may be why this one failed.
        shutil.rmtree(self.run.folder, ignore_errors=True)

    def _wait(self, done: Callable[[], bool], deadline: float) -> None:
        """Until `done` has held for a moment, in which answers leave; or the deadline, or tritonserver's end."""
        since: float | None = None
        while (now := time.monotonic()) < deadline and self._process.poll() is None:
            since = (since or now) if done() else None
            if since is not None and now - since >= _SETTLED_S:
                return
            time.sleep(_POLL_S)


class _Readiness:
    """Whether tritonserver reports itself ready over HTTP, which needs no certificate as gRPC may.

    Asks on a connection that it keeps: a new one would not be answered where clients have taken every file descriptor
    that tritonserver may have, and it still answers those whom it knows.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=_ASK_S)
        self.is_ready: bool = False
        self.asked_s = self.answered_s = time.monotonic()

    def ask(self) -> bool:
        """Whether it is ready; False also where it does not answer."""
        self.asked_s = time.monotonic()
        status = None
        with contextlib.suppress(OSError, http.client.HTTPException):
            try:
                status = self._status()
            except ConnectionError:  # closed since the last time, perhaps
                status = self._status()
        if status is not None:
            self.answered_s = time.monotonic()
        self.is_ready = status == HTTPStatus.OK
        return self.is_ready

    def _status(self) -> int:
        try:
            self._connection.request("GET", "/v2/health/ready")
            with self._connection.getresponse() as answer:
                answer.read()
                return answer.status
        except BaseException:  # whatever it is: a connection with half an answer is of no use
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection; the next question opens another."""
        self._connection.close()


def _runs(group: int) -> bool:
    """Whether a process of the group has not ended. One that has may stay as a zombie until its new parent looks, which
    some only do every other second; one whose first thread alone has ended looks like a zombie, too."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(pid) == group:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1:
                    return True
    return False


def _lanes(model: str) -> set[GateLane]:
    """Those whose requests wait where the model's process is silent."""
    return NEEDING.get(model, set())


def _stubs(tritonserver: int) -> dict[psutil.Process, str]:
    """The processes of Python models, and the model of each."""
    found = {}
    with contextlib.suppress(psutil.NoSuchProcess):  # which is seen soon
        for child in psutil.Process(tritonserver).children():
            command: list[str] = child.cmdline()
            if command and Path(command[0]).name == _STUB:
                found[child] = Path(command[1]).parts[-3]  # .../maxsim/1/model.py
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
