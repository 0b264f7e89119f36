"""What tritonserver is started with."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from tridex.serving.run_folder import GATE, RunFolder
from tridex.serving.settings import MEMORY_BUDGET, RUN, STORE

from .errors import ServerError
from .guard import GuardError, guard_environment
from .leftovers import own_prefix
from .log import Log
from .runtime import Runtime, find_runtime
from .tritonserver import TritonProcess

_CLOSED_TO_CALLERS = "model-repository,model-config,shared-memory,logging,trace"
"""Triton server's names of what runs code, reads or writes memory, or writes files for whoever asks for it."""


@dataclass(frozen=True)
class Settings:
    """What a server is made with: `TritonServer` describes it."""

    repository: Path
    store: Path
    host: str
    grpc_port: int
    http_port: int
    http_inference: bool
    memory_budget: int | None
    arguments: tuple[str, ...]
    start_timeout_s: float


class Launch:
    """Starts tritonserver, as often as it is called.

    `folder` is where backends and run folders go, `metrics` the host and port that tritonserver serves metrics on.
    """

    def __init__(self, settings: Settings, folder: Path, metrics: tuple[str, int], log: Log) -> None:
        self._settings = settings
        self._folder = folder
        self._metrics = metrics
        self._log = log
        self._lives = itertools.count(1)

    def __call__(self, cancelled: threading.Event) -> TritonProcess | None:
        """A tritonserver that is ready; None where it was cancelled meanwhile. Raises ServerError.

        To be called by a thread that lives at least as long as what it returns.
        """
        began_at = self._log.size
        try:
            process = self._start()
        except OSError as error:
            raise ServerError(f"tritonserver cannot be started: {error}") from error
        ready = False
        try:
            ready = process.wait_until_ready(self._settings.start_timeout_s, cancelled)
        except ServerError as error:
            raise ServerError(f"{error} {self._log.cause(began_at)}") from error
        finally:
            if not ready:
                process.kill()
        return process if ready else None

    def _start(self) -> TritonProcess:
        settings = self._settings
        run = RunFolder(self._folder / f"run-{next(self._lives)}")
        runtime = find_runtime(self._folder)
        try:
            guard = guard_environment(self._folder, run.folder / GATE)
        except GuardError as error:
            raise ServerError(str(error)) from error
        environment = {**os.environ, **runtime.environment, **guard, STORE: str(settings.store), RUN: str(run.folder)}
        if settings.memory_budget is not None:
            environment[MEMORY_BUDGET] = str(settings.memory_budget)
        memory_prefix = f"{own_prefix()}{settings.grpc_port}-"
        host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
        self._log.write(f"{runtime.name} starts with store {settings.store}")
        return TritonProcess(
            self._command(runtime, memory_prefix),
            environment,
            log=self._log.descriptor,
            run=run,
            address=f"{host}:{settings.grpc_port}",
            memory_prefix=memory_prefix,
        )

    def _command(self, runtime: Runtime, memory_prefix: str) -> list[str]:
        settings = self._settings
        metrics_host, metrics_port = self._metrics
        # Nobody keeps this key. Whoever may list this machine's processes reads it all the same; what could run code
        # in the server, a model that is sent with a request to load it, is closed by the control mode as well.
        closed = f"{_CLOSED_TO_CALLERS}:tridex-launcher={secrets.token_urlsafe(32)}"
        return [
            str(runtime.binary),
            *runtime.arguments,
            f"--model-repository={settings.repository}",
            *([f"--model-config-name={runtime.encoder_config}"] if runtime.encoder_config else []),
            "--model-control-mode=none",
            f"--grpc-address={settings.host}",
            f"--grpc-port={settings.grpc_port}",
            f"--grpc-restricted-protocol={closed}",
            f"--allow-http={str(settings.http_inference).lower()}",
            f"--http-address={settings.host}",
            f"--http-port={settings.http_port}",
            f"--http-restricted-api={closed}",
            f"--metrics-address={metrics_host}",
            f"--metrics-port={metrics_port}",
            f"--backend-config=python,shm-region-prefix-name={memory_prefix}",
            "--backend-config=python,shm-default-byte-size=4194304",
            *settings.arguments,
        ]
