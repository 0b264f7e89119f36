"""Servers that tests start, on ports that nothing else has."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings


def free_ports(count: int) -> list[int]:
    """Distinct ports on which nothing listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended. One that has may stay as a zombie for seconds, until its parent looks."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def new_server(repository: Path, store: Path, **settings: Any) -> TritonServer:
    """A server that is not started yet."""
    grpc_port, http_port, metrics_port = free_ports(3)
    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    return TritonServer(ServerSettings(repository=repository, store=store, **ports, **settings))
