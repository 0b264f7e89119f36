"""Starts tritonserver: its command line and its environment."""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

from tridex.common.device import CPU
from tridex.serving import forwarded_headers, run_folder
from tridex.serving.run_folder import RunFolder
from tridex.serving.settings import ModelSettings, ServerSettings, environment

from .errors import ServerError
from .guard import guard_environment
from .leftovers import own_prefix
from .log import Log
from .placement import Placement
from .runtime import Runtime, find_runtime
from .tritonserver import TritonProcess

_CLOSED_TO_CLIENTS = "model-repository,model-config,shared-memory,logging,trace"
"""Triton server's names of the protocols by which a client could run code, access memory, or write files."""
_CLOSED_WITH_KEYS = f"{_CLOSED_TO_CLIENTS},metadata,statistics"
"""Where callers need keys: Triton server cannot check these calls' keys."""
_HEAPS = "MALLOC_ARENA_MAX"
"""glibc's variable of how many heaps threads share. One for all took 64 MB less of 1,351, and no throughput: 155.7
against 153.9 searches a second of 64 clients, 143.0 against 141.4 of 16."""
_VERTEX_AI = "AIP_MODE"
"""The variable by which Triton server opens Vertex AI's port, on every address."""


class Launch:
    """Starts a tritonserver at each call.

    `settings` have absolute paths. `arguments` are further ones of tritonserver's. `folder` is where backends and run
    folders go, `metrics` and `http` the hosts and ports that tritonserver serves metrics and HTTP on.
    """

    def __init__(
        self,
        settings: ServerSettings,
        arguments: Sequence[str],
        placement: Placement,
        folder: Path,
        metrics: tuple[str, int],
        http: tuple[str, int],
        log: Log,
    ) -> None:
        self._settings = settings
        self._arguments = arguments
        self._placement = placement
        self._folder = folder
        self._metrics = metrics
        self._http = http
        self._log = log
        self._lives = itertools.count(1)

    def __call__(self, cancelled: threading.Event) -> TritonProcess | None:
        """A tritonserver that is ready; None where `cancelled` was set meanwhile. Raises ServerError.

        To be called by a thread that lives at least as long as the tritonserver.
        """
        self._log.mark()
        try:
            process = self._start()
        except OSError as error:
            raise ServerError(f"tritonserver cannot be started: {error}") from error
        try:
            ready = process.wait_until_ready(self._settings.start_timeout_s, cancelled)
        except BaseException as error:
            process.kill()
            if isinstance(error, ServerError):
                raise ServerError(f"{error} {self._log.cause()}") from error
            raise
        if ready:
            return process
        process.kill()
        return None

    def _start(self) -> TritonProcess:
        settings = self._settings
        run = RunFolder(self._folder / f"run-{next(self._lives)}")
        runtime = find_runtime(self._folder)
        variables = {
            _HEAPS: "1",
            **{name: value for name, value in os.environ.items() if name != _VERTEX_AI},
            **runtime.environment,
            **guard_environment(self._folder, run.folder / run_folder.GATE, run.folder / run_folder.CANCELLED),
            **self._placement.environment,
            **environment(
                **{name: getattr(settings, name) for name in ModelSettings.model_fields}
                | {"memory_budget": self._placement.memory_budget, "device": self._placement.device_of_models}
            ),
            run_folder.VARIABLE: str(run.folder),
        }
        memory_prefix = f"{own_prefix()}{settings.grpc_port}-"
        self._log.on_gpu = self._placement.device != CPU
        self._log.write(f"{runtime.name} starts on {self._placement.device} with store {settings.store}")
        return TritonProcess(
            self._command(runtime, memory_prefix),
            variables,
            log=self._log.descriptor,
            run=run,
            address=self._http,
            memory_prefix=memory_prefix,
        )

    def _command(self, runtime: Runtime, memory_prefix: str) -> list[str]:
        settings = self._settings
        (metrics_host, metrics_port), (http_host, http_port) = self._metrics, self._http
        # This key is not kept. Users who may list this machine's processes can read it; loading a model that is sent
        # with the request, which could run code in the server, is closed by the control mode as well.
        closed = _CLOSED_WITH_KEYS if settings.api_key_file else _CLOSED_TO_CLIENTS
        closed = f"{closed}:tridex-launcher={secrets.token_urlsafe(32)}"
        return [
            str(runtime.binary),
            *runtime.arguments,
            f"--model-repository={settings.repository}",
            *([f"--model-config-name={runtime.encoder_config}"] if runtime.encoder_config else []),
            "--model-control-mode=none",
            # Nothing is missing in the configurations, and to look for it the Python backend would start every model's
            # process once before: 2 CPU seconds of imports each for `search` and `ingest`.
            "--disable-auto-complete-config",
            f"--grpc-address={settings.host}",
            f"--grpc-port={settings.grpc_port}",
            f"--grpc-restricted-protocol={closed}",
            *self._encryption(),
            f"--http-address={http_host}",
            f"--http-port={http_port}",
            f"--http-restricted-api={'' if settings.http_inference else 'inference,'}{closed}",
            f"--metrics-address={metrics_host}",
            f"--metrics-port={metrics_port}",
            "--metrics-config=summary_latencies=true",
            f"--grpc-header-forward-pattern={forwarded_headers.PATTERN}",
            f"--http-header-forward-pattern={forwarded_headers.PATTERN}",
            f"--backend-config=python,shm-region-prefix-name={memory_prefix}",
            "--backend-config=python,shm-default-byte-size=4194304",
            f"--log-verbose={settings.log_verbosity}",
            f"--grpc-keepalive-time={_ms(settings.grpc_keepalive_s)}",
            f"--grpc-infer-response-compression-level={settings.grpc_compression}",
            *([f"--grpc-max-connection-age={_ms(age)}"] if (age := settings.grpc_max_connection_age_s) else []),
            *self._arguments,
        ]

    def _encryption(self) -> list[str]:
        settings = self._settings
        if settings.tls_cert is None:
            return []
        files = [f"--grpc-server-cert={settings.tls_cert}", f"--grpc-server-key={settings.tls_key}"]
        if settings.client_ca is None:
            return ["--grpc-use-ssl=true", *files]
        return ["--grpc-use-ssl-mutual=true", *files, f"--grpc-root-cert={settings.client_ca}"]


def _ms(seconds: float) -> int:
    """Milliseconds, at least one."""
    return max(1, round(1000 * seconds))
