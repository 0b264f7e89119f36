"""The ports that a server listens on, held from before it starts until it has ended."""

from __future__ import annotations

import errno
import secrets
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psutil

from .errors import ServerError


@contextmanager
def reserved(addresses: Mapping[str, tuple[str, int]]) -> Iterator[None]:
    """Keeps ports bound, without listening: a process that sets SO_REUSEADDR, as Triton server does, can still listen.

    Otherwise a process that connects to an ephemeral port on which nothing listens yet may be given that very port by
    the kernel: it is connected to itself then, and the server cannot listen there.

    `addresses` is host and port by name ("grpc", "http", "metrics"). Raises ServerError naming the one that is no port,
    named twice, in use, or of another machine.
    """
    uses = Counter(port for _, port in addresses.values())
    for name, (_, port) in addresses.items():
        if not 1 <= port <= 65535:
            raise ServerError(f"the {name} port is {port}; expected 1 to 65535, by --{name}-port")
        if uses[port] > 1:
            names = " and ".join(f"--{other}-port" for other, (_, same) in addresses.items() if same == port)
            raise ServerError(f"{names} are {port} at once; expected distinct ports")
    with ExitStack() as stack:
        for name, (host, port) in addresses.items():
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host or "no address", port))  # "" would be all addresses
            except OSError as error:
                raise ServerError(_refused(name, host, port, error)) from error
        yield


@contextmanager
def hidden() -> Iterator[tuple[str, int]]:
    """A random loopback address, one in 2^24, and a port there, held as by `reserved`: other users cannot guess it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((".".join(("127", *(str(1 + secrets.randbelow(254)) for _ in range(3)))), 0))
        yield sock.getsockname()


def _refused(name: str, host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        option = "--metrics-host" if name == "metrics" else "--host"
        return f"{option} is {host!r}, which is not an IPv4 address of this machine"
    if error.errno != errno.EADDRINUSE:
        return f"the {name} port {port} on {host} cannot be used: {error.strerror}; choose another by --{name}-port"
    user = _listener(port)
    return f"the {name} port {port} on {host} is in use by {user}: stop that, or choose another by --{name}-port"


def _listener(port: int) -> str:
    """The process that listens on a port, as far as this user may know."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                if process.name() == "tritonserver" and (launcher := process.parent()) and launcher.pid > 1:
                    process = launcher  # which would start another
                return f"process {process.pid} ({' '.join(process.cmdline())[:100]})"
            except psutil.Error:
                break
    return "a process that this user cannot see"
