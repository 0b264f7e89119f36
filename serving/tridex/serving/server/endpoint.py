"""The launcher's own HTTP endpoint: a few paths by GET.

Triton server's own HTTP front end reads a request's body whatever is asked of it. In the embedded release, 54 MB sent
in chunks of one byte end it, or, where they are sent to its metrics port, take 9 GB. This one reads no body.

Its connections are few, and none is held by a client for long: a request, and again its answer, has a deadline as a
whole, and where there is no room for another connection, the client that has been waited for longest makes it.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tridex.serving.access.access import Access
from tridex.serving.access.callers import AccessError
from tridex.serving.access.key_file import EVERY

_MAX_CONNECTIONS = 32
_TIMEOUT_S = 5.0
_POLL_S = 0.1
"""How long closing takes at most."""
_ROOM_S = 1.0
"""How long a thread may take to see that its connection was shut."""

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """To one request."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""


Answers = Mapping[str, Callable[[str | None], Answer]]
"""By path, what is answered to a request with this header Authorization, None where it has none."""


def health(is_ready: Callable[[], bool]) -> Answers:
    """Liveness and readiness, by Triton server's paths: 200, or 503 for no."""
    return {
        "/v2/health/live": lambda _: Answer(),
        "/v2/health/ready": lambda _: Answer(HTTPStatus.OK if is_ready() else HTTPStatus.SERVICE_UNAVAILABLE),
    }


def metrics(find: Callable[[], Answer], access: Access) -> Answers:
    """The metrics, to who may read every collection: they name them."""

    def answer(authorization: str | None) -> Answer:
        try:
            if not access.caller(authorization).may_read(EVERY):
                return Answer(HTTPStatus.FORBIDDEN)
        except AccessError:
            return Answer(HTTPStatus.UNAUTHORIZED)
        return find()

    return {"/metrics": answer}


def fetch(host: str, port: int, path: str) -> Answer:
    """What another server answers; SERVICE_UNAVAILABLE where none does."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return Answer(HTTPStatus(answer.status), answer.read())
    except (OSError, http.client.HTTPException):
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE)
    finally:
        connection.close()


class Endpoint:
    """Listens from when it is made until it is closed."""

    def __init__(self, host: str, port: int, answers: Answers, tls: ssl.SSLContext | None = None) -> None:
        self._server = _Server((host, port), answers, tls)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name=f"tridex-http-{port}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answers: Answers, tls: ssl.SSLContext | None) -> None:
        self.answers = answers
        self._tls = tls
        self._room = threading.Semaphore(_MAX_CONNECTIONS)
        self._awaited: dict[socket.socket, float] = {}
        """Connections that wait for their clients, to send a request or to take an answer, and since when; the oldest
        first. Every thread changes it, by single operations."""
        super().__init__(address, _Handler)

    @contextmanager
    def answering(self, connection: socket.socket) -> Iterator[None]:
        """While a connection does not wait for its client."""
        self._awaited.pop(connection, None)
        try:
            yield
        finally:
            self._awaited[connection] = time.monotonic()

    def server_bind(self) -> None:
        # HTTPServer's own asks the domain name service for the host's name, which may take seconds.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls:
            # The handshake waits for the thread that reads: one that never comes holds up nobody.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._make_room():
            self.shutdown_request(request)
            return
        self._awaited[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # such as no thread
            self._ended(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._ended(request)

    def service_actions(self) -> None:
        """Is called ten times a second."""
        late = time.monotonic() - _TIMEOUT_S
        for connection, since in [*self._awaited.items()]:
            if since < late:
                _shut(connection)

    def server_close(self) -> None:
        super().server_close()
        for connection in [*self._awaited]:
            _shut(connection)

    def _make_room(self) -> bool:
        if self._room.acquire(blocking=False):
            return True
        for connection in [*self._awaited][:1]:
            _shut(connection)
            return self._room.acquire(timeout=_ROOM_S)
        return False

    def _ended(self, connection: Any) -> None:
        self._awaited.pop(connection, None)
        self._room.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        _log.debug("a request from %s failed", client_address, exc_info=True)


def _shut(connection: socket.socket) -> None:
    """Ends what its thread waits for. Not by SSLSocket's own, which changes what that thread uses."""
    with contextlib.suppress(OSError):  # it has ended
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server_version = "tridex"
    sys_version = ""
    error_content_type = "text/plain"
    error_message_format = "%(message)s\n"
    server: _Server

    def do_GET(self) -> None:
        find = self.server.answers.get(self.path)
        if find is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with self.server.answering(self.connection):
            answer = find(self.headers["Authorization"])
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        """Logs nothing: probes come every few seconds."""
