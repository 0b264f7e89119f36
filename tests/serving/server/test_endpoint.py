"""What the launcher answers over HTTP, and what it does not."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_ports

from tridex.serving.access.access import Access
from tridex.serving.access.key_file import Right, add_key
from tridex.serving.server.endpoint import Answer, Answers, Endpoint, fetch, health, metrics


@pytest.fixture
def ready() -> list[bool]:
    return [True]


@pytest.fixture
def port(ready: list[bool]) -> Iterator[int]:
    with serving(health(lambda: ready[0])) as port:
        yield port


class serving:  # noqa: N801
    """An endpoint on a free port."""

    def __init__(self, answers: Answers) -> None:
        (self._port,) = free_ports(1)
        self._endpoint = Endpoint("127.0.0.1", self._port, answers)

    def __enter__(self) -> int:
        return self._port

    def __exit__(self, *_: object) -> None:
        self._endpoint.close()


def ask(port: int, path: str, method: str = "GET", body: bytes | None = None, key: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_health_is_alive_and_ready_or_not(port: int, ready: list[bool]) -> None:
    assert ask(port, "/v2/health/live") == ask(port, "/v2/health/ready") == (200, "")
    ready[0] = False
    assert ask(port, "/v2/health/live") == (200, "")
    assert ask(port, "/v2/health/ready") == (503, "")


@pytest.mark.parametrize("path", ["/", "/metrics", "/v2/models/search/infer", "/v2/health/ready/../live"])
def test_there_is_nothing_else(port: int, path: str) -> None:
    assert ask(port, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "<script>"])
def test_nothing_but_get(port: int, method: str) -> None:
    assert ask(port, "/v2/health/ready", method, b"x" * 10_000)[0] == 501


def test_what_is_not_http_holds_up_nobody(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
    with socket.create_connection(("127.0.0.1", port)) as rude:
        rude.sendall(b"\x00\xff" * 50_000)
        assert ask(port, "/v2/health/live")[0] == 200
    for connection in silent:
        connection.close()


def test_connections_have_a_limit(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    time.sleep(1)
    closed, _, _ = select.select(held, [], [], 0)
    for connection in held:
        connection.close()
    assert len(closed) == 40 - 32


def found() -> Answer:
    return Answer(body=b"tridex_ready 1\n")


def test_what_another_server_answers_is_fetched() -> None:
    with serving({"/metrics": lambda _: Answer(body=b"nv_inference_count 1\n")}) as port:
        assert fetch("127.0.0.1", port, "/metrics") == (200, b"nv_inference_count 1\n")
        assert fetch("127.0.0.1", port, "/other").status == 404
    assert fetch("127.0.0.1", port, "/metrics") == (503, b"")


def test_metrics_are_for_who_may_read_every_collection(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    prometheus = add_key(file, "prometheus", [Right.READ], ["*"])
    reader = add_key(file, "reader", [Right.READ], ["docs"])
    with serving(metrics(found, Access(file))) as port:
        assert ask(port, "/metrics")[0] == 401
        assert ask(port, "/metrics", key="tridex_wrong")[0] == 401
        assert ask(port, "/metrics", key=reader)[0] == 403
        assert ask(port, "/metrics", key=prometheus) == (200, "tridex_ready 1\n")
    with serving(metrics(found, Access(None))) as port:
        assert ask(port, "/metrics") == (200, "tridex_ready 1\n")
        assert ask(port, "/metrics", "POST")[0] == 501
