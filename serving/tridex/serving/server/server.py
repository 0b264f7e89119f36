"""Starts a Triton server on a model repository and a store, keeps it running, stops it: docs/guides/operations.md."""

from __future__ import annotations

import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tridex.common.device import AUTO
from tridex.serving.kernel_cache import default_folder

from . import endpoint
from .errors import ServerError
from .launch import Launch, LaunchOptions
from .leftovers import own_prefix, remove_leftovers
from .log import open_log
from .placement import place
from .ports import hidden, reserved
from .preflight import check_repository, check_store
from .supervisor import Supervisor
from .tritonserver import TritonProcess

__all__ = ["ServerError", "TritonServer"]

_logger = logging.getLogger(__name__)


class TritonServer:
    """A tritonserver over one model repository and one store, started again whenever it or a model's process dies.

    `device` is what encodes and searches, by the names of tridex.common.device.
    `kernel_cache` is where a GPU's compiled kernels are kept; beside the store where left out.
    `memory_budget` is how many bytes collections may take on the device; by tridex.serving.memory where left out.
    `tensorrt` has TensorRT encode searches on a GPU.
    `recall_sample_rate` is the share of the approximate searches that are repeated exactly.
    `http_inference` turns on Triton server's own HTTP front end, which takes requests to models; where it is off, the
    HTTP port serves health checks alone. `stop_timeout_s` is how long requests in flight may take when it stops.
    A context manager: ready on entry, gone on exit. Raises ServerError where a port is taken, where the repository has
    no usable encoder, where the device cannot be used or has too little memory, or where a model does not load.
    """

    def __init__(
        self,
        repository: Path,
        store: Path,
        *,
        device: str = AUTO,
        kernel_cache: Path | None = None,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        http_port: int = 8000,
        metrics_port: int = 8002,
        metrics_host: str = "127.0.0.1",
        http_inference: bool = False,
        log: Path | None = None,
        memory_budget: int | None = None,
        recall_sample_rate: float | None = None,
        tensorrt: bool = False,
        arguments: tuple[str, ...] = (),
        start_timeout_s: float = 180.0,
        stop_timeout_s: float = 20.0,
    ) -> None:
        self.repository = repository.resolve()
        self.store = store.resolve()
        self.host = host
        self.metrics_host = metrics_host
        self.device = device
        """As it was asked for, and once the server has started, "cpu" or "cuda:N"."""
        self._asked_for = device
        self.ports = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port}
        self.log = (log or self.store.parent / "tritonserver.log").resolve()
        self._kernel_cache = kernel_cache.resolve() if kernel_cache else default_folder(self.store)
        self._memory_budget = memory_budget
        self._options = LaunchOptions(
            repository=self.repository,
            store=self.store,
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            http_inference=http_inference,
            recall_sample_rate=recall_sample_rate,
            tensorrt=tensorrt,
            arguments=arguments,
            start_timeout_s=start_timeout_s,
        )
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
        placement = place(
            self._asked_for,
            self._memory_budget,
            self.repository,
            self._kernel_cache,
            tensorrt=self._options.tensorrt,
        )
        hosts = {"grpc": self.host, "http": self.host, "metrics": self.metrics_host}
        with ExitStack() as held:
            held.enter_context(reserved({name: (hosts[name], port) for name, port in self.ports.items()}))
            metrics = held.enter_context(hidden())
            log = held.enter_context(open_log(self.log))
            remove_leftovers()
            held.callback(remove_leftovers)
            try:
                folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=own_prefix())))
            except OSError as error:
                raise ServerError(f"no temporary folder can be made: {error}; TMPDIR says where") from error

            def notify(text: str) -> None:
                _logger.warning("tridex serve: %s", text)
                log.write(text)

            supervisor = Supervisor(
                Launch(self._options, placement, folder, metrics, log), notify, self._stop_timeout_s
            )
            listen = [(self.metrics_host, self.ports["metrics"], endpoint.metrics(*metrics))]
            if not self._options.http_inference:
                listen.append((self.host, self.ports["http"], endpoint.health(lambda: supervisor.is_ready)))
            for address in listen:
                held.callback(endpoint.Endpoint(*address).close)
            held.callback(supervisor.stop)
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
