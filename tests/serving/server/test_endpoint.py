"""What the launcher answers over HTTP, and what it does not."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from eventually import eventually
from servers import free_ports

from tridex.serving.access.access import Access
from tridex.serving.access.key_file import Right, add_key
from tridex.serving.server import endpoint
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


def connected(port: int, count: int, sent: bytes = b"") -> list[socket.socket]:
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for connection in connections:
        connection.sendall(sent)
    return connections


def closed(connections: list[socket.socket]) -> list[socket.socket]:
    return select.select(connections, [], [], 0)[0]


def handlers() -> int:
    """Threads that have a connection."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_connections_have_a_limit_and_the_oldest_make_room(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_TIMEOUT_S", 3600.0)
    held = connected(port, 40, b"GET /v2/health/live HTTP/1.1\r\nX: ")
    eventually(lambda: len(closed(held)) == 40 - 32)
    time.sleep(1)
    assert closed(held) == held[:8]
    assert ask(port, "/v2/health/live")[0] == 200
    eventually(lambda: closed(held) == held[:9])
    for connection in held:
        connection.close()


def test_a_request_has_a_deadline_however_often_a_byte_of_it_comes(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_TIMEOUT_S", 0.5)
    (slow,) = connected(port, 1, b"GET /v2/health/live HTTP/1.1\r\nX: ")

    def ended() -> bool:
        with contextlib.suppress(ConnectionError):
            slow.sendall(b"a")
        return bool(closed([slow]))

    eventually(ended)
    slow.close()


def test_an_answer_that_is_not_taken_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_TIMEOUT_S", 0.5)
    body = bytes(100 << 20)
    asked = threading.Event()

    def large(_: object) -> Answer:
        asked.set()
        return Answer(body=body)

    with serving({"/": large}) as port:
        (slow,) = connected(port, 1, b"GET / HTTP/1.1\r\n\r\n")
        assert asked.wait(60)
        eventually(lambda: handlers() == 0)
        with slow, slow.makefile("rb") as answer:
            assert 0 < len(answer.read()) < len(body)


def test_what_is_being_answered_makes_no_room() -> None:
    going_on = threading.Event()
    with serving({"/": lambda _: Answer(body=str(going_on.wait(60)).encode())}) as port:
        eventually(lambda: handlers() == 0)
        asked = connected(port, 32, b"GET / HTTP/1.1\r\n\r\n")
        eventually(lambda: handlers() == 32)
        time.sleep(0.5)
        with pytest.raises(OSError):
            ask(port, "/")
        going_on.set()
        for connection in asked:
            with connection, connection.makefile("rb") as answer:
                assert answer.read().endswith(b"True")


def test_a_thread_that_cannot_be_made_costs_its_own_request_alone(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        for _ in range(40):
            with pytest.raises(OSError):
                ask(port, "/v2/health/live")
    assert ask(port, "/v2/health/live")[0] == 200


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
