"""Servers that tests start, on ports that nothing else has."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from tridex.serving.server import TritonServer


def free_ports(count: int) -> list[int]:
    """Distinct ports on which nothing listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def new_server(repository: Path, store: Path, memory_budget: int | None = None) -> TritonServer:
    """A server that is not started yet."""
    grpc_port, http_port, metrics_port = free_ports(3)
    return TritonServer(
        repository,
        store,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        memory_budget=memory_budget,
    )
