"""Starts a Triton server on a model repository and a store, keeps it running, stops it: docs/guides/operations.md."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tridex.serving.access.access import Access
from tridex.serving.access.key_file import KeyFileError
from tridex.serving.kernel_cache import cache_folder, default_folder
from tridex.serving.settings import ServerSettings

from . import endpoint
from .errors import ServerError
from .launch import Launch
from .leftovers import own_prefix, remove_leftovers
from .log import open_log
from .metrics import ServerMetrics
from .placement import place
from .ports import hidden, reserved
from .preflight import check_repository, check_store, check_tracing, exposed
from .supervisor import Supervisor
from .tls import server_context
from .tritonserver import TritonProcess

__all__ = ["ServerError", "TritonServer"]

_logger = logging.getLogger(__name__)


class TritonServer:
    """A tritonserver over one model repository and one store, started again whenever it or a model's process dies.

    A context manager: ready on entry, gone on exit. Raises ServerError where a port is taken, where the repository has
    no usable encoder, where the device cannot be used or has too little memory, or where a model does not load.
    `arguments` are further ones of tritonserver's.
    """

    def __init__(self, settings: ServerSettings, *, arguments: tuple[str, ...] = ()) -> None:
        store = settings.store.resolve()
        # The log may be /dev/stdout, which leads to a pipe that has no path.
        absolute = {
            name: value.absolute() if name == "log" else value.resolve()
            for name, value in settings
            if isinstance(value, Path)
        }
        defaults = {"log": store.parent / f"{store.name}.log", "kernel_cache": default_folder(store)}
        self.settings = settings.model_copy(update={**defaults, **absolute})
        """Every path absolute."""
        self.host, self.store, self.repository = settings.host, store, self.settings.repository
        self.log = Path(str(self.settings.log))
        self.device = settings.device
        """As it was asked for, and once the server has started, "cpu" or "cuda:N"."""
        self.ports = {"grpc": settings.grpc_port, "http": settings.http_port, "metrics": settings.metrics_port}
        self._arguments = arguments
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
            raise ServerError("the server is not running: it is being started again")
        return process.pid

    @property
    def is_ready(self) -> bool:
        """As the health endpoint reports: every process lives, no model is in trouble, and it is not stopping."""
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
        check_repository(self.repository)
        check_store(self.store)
        health_tls = server_context(self.settings, for_clients_of_ours=False)
        metrics_tls = server_context(self.settings, for_clients_of_ours=True)
        try:
            access = Access.of_a_start(self.settings.api_key_file)
        except KeyFileError as error:
            raise ServerError(str(error)) from error
        settings = self.settings
        if settings.otlp_endpoint:
            check_tracing()
        placement = place(
            settings.device,
            settings.memory_budget,
            self.repository,
            cache_folder(settings),
            tensorrt=settings.tensorrt,
        )
        hosts = {"grpc": self.host, "http": self.host, "metrics": settings.metrics_host}
        with ExitStack() as held:
            held.enter_context(reserved({name: (hosts[name], port) for name, port in self.ports.items()}))
            metrics = held.enter_context(hidden())
            http = (self.host, settings.http_port) if settings.http_inference else held.enter_context(hidden())
            log = held.enter_context(open_log(self.log, settings.log_format, settings.log_size))
            remove_leftovers()
            held.callback(remove_leftovers)
            try:
                folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=own_prefix())))
            except OSError as error:
                raise ServerError(f"no temporary folder can be made: {error}; TMPDIR says where") from error

            def notify(text: str) -> None:
                _logger.warning("tridex serve: %s", text)
                log.write(text, "WARNING")

            launch = Launch(settings, self._arguments, placement, folder, metrics, http, log)
            supervisor = Supervisor(launch, notify, settings.stop_timeout_s)
            own = ServerMetrics(supervisor, placement.device, metrics)
            answers = endpoint.metrics(own.answer, access)
            listen = [(settings.metrics_host, settings.metrics_port, answers, metrics_tls)]
            if not settings.http_inference:
                answers = endpoint.health(lambda: supervisor.is_ready)
                listen.append((self.host, settings.http_port, answers, health_tls))
            for address in listen:
                held.callback(endpoint.Endpoint(*address).close)
            held.callback(supervisor.stop)
            if risk := exposed(settings):
                notify(risk)
            if placement.remark:
                log.write(f"the GPU is not used: {placement.remark}")
            supervisor.start()
            self.device = placement.device
            self._supervisor = supervisor
            self._held = held.pop_all()

    def begin_to_stop(self) -> None:
        """Turns readiness false and begins to refuse new requests; `stop` does the rest."""
        if self._supervisor is not None:
            self._supervisor.begin_to_stop()

    def stop(self) -> None:
        """Refuses new requests, answers those in flight, ends every process, cleans up. Safe to call twice."""
        self._supervisor = None
        self._held.close()

    def wait(self) -> None:
        """Blocks until the server was stopped."""
        self._running().wait()

    def _running(self) -> Supervisor[TritonProcess]:
        if self._supervisor is None:
            raise ServerError("the server is not running")
        return self._supervisor
