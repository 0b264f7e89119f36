"""Liveness and readiness over HTTP, from the launcher itself.

Triton server's own HTTP front end takes requests of all kinds, and in the embedded release it has faults in memory
safety. This one answers GET /v2/health/live and GET /v2/health/ready, the same paths, by 200 or 503. It reads no body,
and knows more: whether the process of every model is alive and well.
"""

from __future__ import annotations

import logging
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MAX_CONNECTIONS = 32
_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class HealthEndpoint:
    """Listens from when it is made until it is closed. `is_ready` is asked for every answer."""

    def __init__(self, host: str, port: int, is_ready: Callable[[], bool]) -> None:
        self._server = _Server((host, port), is_ready)
        self._thread = threading.Thread(target=self._server.serve_forever, name="tridex-health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Lets go of the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], is_ready: Callable[[], bool]) -> None:
        self.answers: dict[str, Callable[[], bool]] = {"/v2/health/live": lambda: True, "/v2/health/ready": is_ready}
        self._room = threading.Semaphore(_MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the domain name service for the host's name, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "tridex", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        _log.debug("a health request from %s failed", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_S
    server_version = "tridex"
    sys_version = ""
    error_content_type = "text/plain"
    error_message_format = "%(message)s\n"
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK if answer() else HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing: probes come every few seconds."""
