"""Starts a Triton server on a model repository and a store, keeps it running, stops it: docs/operations.md."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import secrets
import tempfile
import threading
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType

from .environment import MEMORY_BUDGET, RUN, STORE
from .errors import ServerError
from .health import RunFolder
from .health_endpoint import HealthEndpoint
from .leftovers import own_prefix, remove_leftovers
from .ports import reserved
from .preflight import appended_log, check_repository, check_store
from .runtime import Runtime, find_runtime
from .supervisor import Supervisor
from .tritonserver import TritonProcess

__all__ = ["ServerError", "TritonServer"]

_CLOSED_TO_CALLERS = "model-repository,model-config,shared-memory,logging,trace"
"""Triton server's names of what runs code, reads or writes memory, or writes files for whoever asks for it."""

_log = logging.getLogger(__name__)


class TritonServer:
    """A tritonserver over one model repository and one store, started again whenever it or a model's process dies.

    `memory_budget` is how many bytes collections may take on the device; a share of what it has where left out.
    `http_inference` turns on Triton server's own HTTP front end, which takes requests to models; where it is off, the
    HTTP port serves health alone. `stop_timeout_s` is how long what is under way may take when the server stops.
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
        metrics_host: str = "127.0.0.1",
        http_inference: bool = False,
        log: Path | None = None,
        memory_budget: int | None = None,
        arguments: tuple[str, ...] = (),
        start_timeout_s: float = 180.0,
        stop_timeout_s: float = 20.0,
    ) -> None:
        self.repository = repository.resolve()
        self.store = store.resolve()
        self.host = host
        self.metrics_host = metrics_host
        self.ports = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port}
        self.log = (log or self.store.parent / "tritonserver.log").resolve()
        self._http_inference = http_inference
        self._memory_budget = memory_budget
        self._arguments = arguments
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._supervisor: Supervisor[TritonProcess] | None = None
        self._held = ExitStack()

    @property
    def address(self) -> str:
        """host:port of the gRPC endpoint."""
        return f"{self.host}:{self.ports['grpc']}"

    @property
    def pid(self) -> int:
        """The process id of tritonserver; another one after it was started again."""
        process = self._running().server
        if process is None:
            raise ServerError("the server is not running; it is being started again")
        return process.pid

    @property
    def is_ready(self) -> bool:
        """What the health endpoint says: every process lives, no model is in trouble, nobody has asked it to stop."""
        return self._supervisor is not None and self._supervisor.is_ready

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the server and returns when every model is ready."""
        if self._supervisor is not None:
            raise ServerError("the server is running already")
        with ExitStack() as held:
            check_repository(self.repository)
            check_store(self.store)
            hosts = {"grpc": self.host, "http": self.host, "metrics": self.metrics_host}
            held.enter_context(reserved({name: (hosts[name], port) for name, port in self.ports.items()}))
            log = held.enter_context(appended_log(self.log))
            remove_leftovers()
            held.callback(remove_leftovers)
            try:
                work_dir = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=own_prefix())))
            except OSError as error:
                raise ServerError(f"no temporary folder can be made: {error}; TMPDIR says where") from error
            lives = itertools.count(1)
            supervisor = Supervisor(
                lambda cancelled: self._launch(cancelled, RunFolder(work_dir / f"run-{next(lives)}"), log),
                lambda text: self._say(text, log),
                self._stop_timeout_s,
            )
            if not self._http_inference:
                endpoint = HealthEndpoint(self.host, self.ports["http"], lambda: supervisor.is_ready)
                held.callback(endpoint.close)
            held.callback(supervisor.stop)
            supervisor.start()
            self._supervisor = supervisor
            self._held = held.pop_all()

    def stop(self) -> None:
        """Refuses what is new, answers what is under way, ends every process, cleans up. Safe to call twice."""
        self._supervisor = None
        self._held.close()

    def wait(self) -> None:
        """Blocks until the server was stopped."""
        self._running().wait()

    def _running(self) -> Supervisor[TritonProcess]:
        if self._supervisor is None:
            raise ServerError("the server is not running")
        return self._supervisor

    def _launch(self, cancelled: threading.Event, run: RunFolder, log: int) -> TritonProcess | None:
        """One life of tritonserver, ready; None where it was cancelled. For a thread that lives as long as it may."""
        runtime = find_runtime(run.folder.parent)
        environment = {**os.environ, **runtime.environment, STORE: str(self.store), RUN: str(run.folder)}
        if self._memory_budget is not None:
            environment[MEMORY_BUDGET] = str(self._memory_budget)
        self._write(f"{runtime.name} starts with store {self.store}", log)
        began_at = os.fstat(log).st_size
        memory_prefix = f"{own_prefix()}{self.ports['grpc']}-"
        process = TritonProcess(
            self._command(runtime, memory_prefix),
            environment,
            log=log,
            run=run,
            address=self._own_address,
            memory_prefix=memory_prefix,
        )
        ready = False
        try:
            ready = process.wait_until_ready(self._start_timeout_s, cancelled)
        except ServerError as error:
            raise ServerError(f"{error} {self._why(began_at)}") from error
        finally:
            if not ready:
                process.kill()
        return process if ready else None

    def _command(self, runtime: Runtime, memory_prefix: str) -> list[str]:
        # Nobody keeps this key. Whoever may list this machine's processes reads it all the same; what could run code
        # in the server, a model that is sent with a request to load it, is closed by the control mode as well.
        closed = f"{_CLOSED_TO_CALLERS}:tridex-launcher={secrets.token_urlsafe(32)}"
        return [
            str(runtime.binary),
            *runtime.arguments,
            f"--model-repository={self.repository}",
            *([f"--model-config-name={runtime.encoder_config}"] if runtime.encoder_config else []),
            "--model-control-mode=none",
            f"--grpc-address={self.host}",
            f"--grpc-port={self.ports['grpc']}",
            f"--grpc-restricted-protocol={closed}",
            f"--allow-http={str(self._http_inference).lower()}",
            f"--http-address={self.host}",
            f"--http-port={self.ports['http']}",
            f"--http-restricted-api={closed}",
            f"--metrics-address={self.metrics_host}",
            f"--metrics-port={self.ports['metrics']}",
            f"--backend-config=python,shm-region-prefix-name={memory_prefix}",
            "--backend-config=python,shm-default-byte-size=4194304",
            *self._arguments,
        ]

    @property
    def _own_address(self) -> str:
        """Where this process reaches it."""
        return f"{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.ports['grpc']}"

    def _say(self, text: str, log: int) -> None:
        """For the operator, on standard error and in the log."""
        _log.warning("tridex serve: %s", text)
        self._write(text, log)

    def _write(self, text: str, log: int) -> None:
        with contextlib.suppress(OSError):  # a full disk
            os.write(log, f"---- {datetime.now():%Y-%m-%d %H:%M:%S} tridex serve: {text}\n".encode())

    def _why(self, began_at: int) -> str:
        """The first cause that the log names for a start, without the server's timestamps, or else its last line."""
        lines: list[str] = []
        if self.log.is_file():
            with self.log.open("rb") as log:
                log.seek(began_at)
                lines = log.read().decode(errors="replace").splitlines()
        causes = [re.sub(r"^E\d{4} .*?\] ", "", line) for line in lines if re.match(r"E\d{4} ", line)]
        # Without a GPU the server reports a missing CUDA driver on every start.
        causes = [cause for cause in causes if "cuda" not in cause.lower()] or lines[-1:] or ["No error was logged."]
        return f"{causes[0]} The log: {self.log}"
