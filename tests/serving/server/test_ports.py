"""Ports are looked at before anything starts, and held until it has ended."""

from __future__ import annotations

import os
import socket

import pytest
from servers import free_ports

from tridex.serving.server.errors import ServerError
from tridex.serving.server.ports import hidden, reserved


def connected_to_itself(port: int) -> bool:
    """Does what the kernel does where it gives the port that is connected to, to who connects."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.connect(("127.0.0.1", port))
        return sock.getsockname() == sock.getpeername()


def test_nobody_takes_a_reserved_port_and_the_server_listens_on_it() -> None:
    free, held = free_ports(2)
    assert connected_to_itself(free)
    with reserved({"grpc": ("127.0.0.1", held)}):
        with pytest.raises(OSError, match="in use"):
            connected_to_itself(held)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", held))
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", held))
            server.listen()
            socket.create_connection(("127.0.0.1", held)).close()


@pytest.mark.parametrize("port", [-1, 0, 65536, 10**9])
def test_a_port_out_of_range_is_named(port: int) -> None:
    with (
        pytest.raises(ServerError, match=rf"the http port is {port}; expected 1 to 65535, by --http-port"),
        reserved({"http": ("127.0.0.1", port)}),
    ):
        pass


def test_equal_ports_are_named() -> None:
    (port,) = free_ports(1)
    addresses = dict.fromkeys(("grpc", "metrics"), ("127.0.0.1", port))
    with pytest.raises(ServerError, match=rf"--grpc-port and --metrics-port are {port} at once"), reserved(addresses):
        pass


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "::1", ""])
@pytest.mark.parametrize(("name", "option"), [("grpc", "--host"), ("metrics", "--metrics-host")])
def test_an_address_of_another_machine_is_named(host: str, name: str, option: str) -> None:
    (port,) = free_ports(1)
    with (
        pytest.raises(ServerError, match=f"{option} is '{host}', which is not an IPv4 address of this machine"),
        reserved({name: (host, port)}),
    ):
        pass


def test_who_holds_a_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerError, match=rf"grpc port {port} on 127.0.0.1 is in use by process {os.getpid()} \(.*"),
            reserved({"grpc": ("127.0.0.1", port)}),
        ):
            pass


def test_a_hidden_address_is_of_this_machine_and_another_each_time() -> None:
    with hidden() as (host, port), hidden() as (other, _), socket.socket() as server:
        assert host != other and host.startswith("127.")
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen()
        socket.create_connection((host, port)).close()
