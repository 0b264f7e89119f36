"""An OpenTelemetry collector: takes spans by OTLP over HTTP and keeps them, or refuses them."""

from __future__ import annotations

import threading
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Listens at `endpoint` within the context, and answers with `status`."""

    def __init__(self, endpoint: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.spans: list[Span] = []
        self.exports: Counter[str] = Counter()
        """How often each model has sent some."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for group in sent.resource_spans:
                    named = {attribute.key: attribute.value.string_value for attribute in group.resource.attributes}
                    collector.spans += [span for scope in group.scope_spans for span in scope.spans]
                    collector.exports[named["tridex.model"]] += 1
                self.send_response_only(status)
                self.end_headers()

        url = urlsplit(endpoint)
        self._server = ThreadingHTTPServer((str(url.hostname), int(url.port or 0)), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
