"""Starts tritonserver: its command line and its environment."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from tridex.serving import run_folder
from tridex.serving.run_folder import RunFolder
from tridex.serving.settings import environment

from .errors import ServerError
from .guard import guard_environment
from .leftovers import own_prefix
from .log import Log
from .placement import Placement
from .runtime import Runtime, find_runtime
from .tritonserver import TritonProcess

_CLOSED_TO_CLIENTS = "model-repository,model-config,shared-memory,logging,trace"
"""Triton server's names of the protocols by which a client could run code, access memory, or write files."""


@dataclass(frozen=True)
class LaunchOptions:
    """The options that `TritonServer` describes."""

    repository: Path
    store: Path
    host: str
    grpc_port: int
    http_port: int
    http_inference: bool
    recall_sample_rate: float | None
    tensorrt: bool
    arguments: tuple[str, ...]
    start_timeout_s: float


class Launch:
    """Starts a tritonserver at each call.

    `folder` is where backends and run folders go, `metrics` the host and port that tritonserver serves metrics on.
    """

    def __init__(
        self, options: LaunchOptions, placement: Placement, folder: Path, metrics: tuple[str, int], log: Log
    ) -> None:
        self._options = options
        self._placement = placement
        self._folder = folder
        self._metrics = metrics
        self._log = log
        self._lives = itertools.count(1)

    def __call__(self, cancelled: threading.Event) -> TritonProcess | None:
        """A tritonserver that is ready; None where `cancelled` was set meanwhile. Raises ServerError.

        To be called by a thread that lives at least as long as the tritonserver.
        """
        began_at = self._log.size
        try:
            process = self._start()
        except OSError as error:
            raise ServerError(f"tritonserver cannot be started: {error}") from error
        ready = False
        try:
            ready = process.wait_until_ready(self._options.start_timeout_s, cancelled)
        except ServerError as error:
            raise ServerError(f"{error} {self._log.cause(began_at)}") from error
        finally:
            if not ready:
                process.kill()
        return process if ready else None

    def _start(self) -> TritonProcess:
        options = self._options
        run = RunFolder(self._folder / f"run-{next(self._lives)}")
        runtime = find_runtime(self._folder)
        variables = {
            **os.environ,
            **runtime.environment,
            **guard_environment(self._folder, run.folder / run_folder.GATE),
            **self._placement.environment,
            **environment(
                store=options.store,
                memory_budget=self._placement.memory_budget,
                recall_sample_rate=options.recall_sample_rate,
                tensorrt=options.tensorrt,
            ),
            run_folder.VARIABLE: str(run.folder),
        }
        memory_prefix = f"{own_prefix()}{options.grpc_port}-"
        host = "127.0.0.1" if options.host == "0.0.0.0" else options.host
        self._log.write(f"{runtime.name} starts on {self._placement.device} with store {options.store}")
        return TritonProcess(
            self._command(runtime, memory_prefix),
            variables,
            log=self._log.descriptor,
            run=run,
            address=f"{host}:{options.grpc_port}",
            memory_prefix=memory_prefix,
        )

    def _command(self, runtime: Runtime, memory_prefix: str) -> list[str]:
        options = self._options
        metrics_host, metrics_port = self._metrics
        # This key is not kept. Users who may list this machine's processes can read it; loading a model that is sent
        # with the request, which could run code in the server, is closed by the control mode as well.
        closed = f"{_CLOSED_TO_CLIENTS}:tridex-launcher={secrets.token_urlsafe(32)}"
        return [
            str(runtime.binary),
            *runtime.arguments,
            f"--model-repository={options.repository}",
            *([f"--model-config-name={runtime.encoder_config}"] if runtime.encoder_config else []),
            "--model-control-mode=none",
            f"--grpc-address={options.host}",
            f"--grpc-port={options.grpc_port}",
            f"--grpc-restricted-protocol={closed}",
            f"--allow-http={str(options.http_inference).lower()}",
            f"--http-address={options.host}",
            f"--http-port={options.http_port}",
            f"--http-restricted-api={closed}",
            f"--metrics-address={metrics_host}",
            f"--metrics-port={metrics_port}",
            f"--backend-config=python,shm-region-prefix-name={memory_prefix}",
            "--backend-config=python,shm-default-byte-size=4194304",
            *options.arguments,
        ]
