"""Starts a Triton server on a model repository and a store, waits until it is ready, stops it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from tridex.encoding import ArtifactError, latest_version_dir, load_artifact

from .environment import MEMORY_BUDGET, STORE
from .guard import GuardError, guard_environment
from .runtime import find_runtime

_SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "tridex-"


class ServerError(RuntimeError):
    """The server could not start or died; the message says why and what to do."""


class TritonServer:
    """One tritonserver process over one model repository and one store.

    `memory_budget` is how many bytes collections may take on the device; a share of what it has where left out.
    A context manager: ready on entry, gone on exit. Raises ServerError where a port is taken, where the repository has
    no usable encoder, or where a model does not load.
    """

    def __init__(
        self,
        repository: Path,
        store: Path,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        http_port: int = 8000,
        metrics_port: int = 8002,
        log: Path | None = None,
        memory_budget: int | None = None,
        arguments: tuple[str, ...] = (),
        start_timeout_s: float = 180.0,
        stop_timeout_s: float = 20.0,
    ) -> None:
        self.repository = repository.resolve()
        self.store = store.resolve()
        self.host = host
        self.ports = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port}
        self.log = (log or self.store.parent / "tritonserver.log").resolve()
        self._memory_budget = memory_budget
        self._arguments = arguments
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._work_dir: tempfile.TemporaryDirectory[str] | None = None

    @property
    def address(self) -> str:
        """host:port of the gRPC endpoint."""
        return f"{self.host}:{self.ports['grpc']}"

    @property
    def pid(self) -> int:
        """The process id of the running tritonserver."""
        return self._running().pid

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server and returns when every model is ready."""
        self._check_repository()
        self._check_ports()
        _remove_stale_shared_memory()
        self.store.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._work_dir = tempfile.TemporaryDirectory(prefix="tridex-")
        runtime = find_runtime(Path(self._work_dir.name))
        command = [
            str(runtime.binary),
            *runtime.arguments,
            f"--model-repository={self.repository}",
            *(f"--{name}-address={self.host}" for name in self.ports),
            *(f"--{name}-port={port}" for name, port in self.ports.items()),
            *([f"--model-config-name={runtime.encoder_config}"] if runtime.encoder_config else []),
            # Explicit, so that one model can be reloaded after an export without a restart.
            "--model-control-mode=explicit",
            "--load-model=*",
            f"--backend-config=python,shm-region-prefix-name={_PREFIX}{os.getpid()}-{self.ports['grpc']}-",
            "--backend-config=python,shm-default-byte-size=4194304",
            "--exit-timeout-secs=10",
            *self._arguments,
        ]
        environment = {**os.environ, **runtime.environment, **self._guard(), STORE: str(self.store)}
        if self._memory_budget is not None:
            environment[MEMORY_BUDGET] = str(self._memory_budget)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: a Ctrl-C reaches the server through stop() alone, and stop() finds the stubs.
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Asks the server to end (SIGTERM), insists after `stop_timeout_s` (SIGKILL), cleans up. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # The Python backend's stubs outlive a server that was killed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._work_dir is not None:
            self._work_dir.cleanup()
            self._work_dir = None
        for left in _SHARED_MEMORY.glob(f"{_PREFIX}{os.getpid()}-{self.ports['grpc']}-*"):
            left.unlink(missing_ok=True)

    def wait(self) -> int:
        """Blocks until the server ends by itself; returns its exit status."""
        return self._running().wait()

    def _guard(self) -> dict[str, str]:
        assert self._work_dir is not None
        try:
            return guard_environment(Path(self._work_dir.name))
        except GuardError as error:
            raise ServerError(str(error)) from error

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process

    def _check_repository(self) -> None:
        if not (self.repository / "search" / "config.pbtxt").exists():
            raise ServerError(f"{self.repository} is not Tridex's model repository: it has no search/config.pbtxt")
        try:
            load_artifact(latest_version_dir(self.repository / "encoder"))
        except ArtifactError as error:
            raise ServerError(str(error)) from error

    def _check_ports(self) -> None:
        for name, port in self.ports.items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as error:
                    raise ServerError(
                        f"the {name} port {port} on {self.host} is in use ({error.strerror}): stop what listens there, "
                        f"or choose another with --{name}-port"
                    ) from error

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        url = f"http://{self.host}:{self.ports['http']}/v2/health/ready"
        process = self._running()
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(f"tritonserver ended with status {process.returncode} while starting. {self._why()}")
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise ServerError(f"tritonserver was not ready after {self._start_timeout_s:.0f} s. {self._why()}")

    def _why(self) -> str:
        """The first cause that the log names, without the server's timestamps."""
        lines = self.log.read_text(errors="replace").splitlines()
        causes = [re.sub(r"^E\d{4} .*?\] ", "", line) for line in lines if re.match(r"E\d{4} ", line)]
        # Without a GPU the server reports a missing CUDA driver on every start.
        causes = [cause for cause in causes if "cuda" not in cause.lower()]
        return f"{causes[0] if causes else 'No error was logged.'} The log: {self.log}"


def _remove_stale_shared_memory() -> None:
    """Removes what a server that was killed left behind: the prefix holds the process that started it."""
    for region in _SHARED_MEMORY.glob(f"{_PREFIX}*"):
        owner = region.name[len(_PREFIX) :].partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            region.unlink(missing_ok=True)
