"""One trace from a LangChain chain to the kernel, printed as a tree; this program is its own OTLP collector.

tridex serve --otlp-endpoint http://localhost:4318
python -m examples.tracing localhost:8001 4318
"""

import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from examples.passages import PASSAGES, QUESTION
from examples.rag_langchain import PROMPT, as_text
from tridex.integrations.langchain import TridexRetriever, TridexVectorStore

SPANS: list[Span] = []


class Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        SPANS.extend(span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans)
        self.send_response_only(200)
        self.end_headers()


def tree(parent: bytes = b"", indent: str = "") -> Iterator[str]:
    children = (span for span in SPANS if span.parent_span_id == parent)
    for span in sorted(children, key=lambda span: span.start_time_unix_nano):
        yield f"{indent}{span.name}: {(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6:.2f} ms"
        yield from tree(span.span_id, indent + "  ")


def main(address: str = "localhost:8001", port: str = "4318") -> None:
    collector = ThreadingHTTPServer(("127.0.0.1", int(port)), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    store = TridexVectorStore("tracing", address)
    store.add_texts(PASSAGES.values(), ids=list(PASSAGES))
    retriever = TridexRetriever(collection="tracing", connection=store.connection, k=2)

    trace.set_tracer_provider(provider := TracerProvider())
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces")))
    with trace.get_tracer(__name__).start_as_current_span("chain"):
        ({"context": retriever | as_text, "question": str} | PROMPT).invoke(QUESTION)
    while not any(span.kind == Span.SPAN_KIND_SERVER for span in SPANS):
        time.sleep(0.1)  # The server sends its spans once a second.
    print("\n".join(tree()))


if __name__ == "__main__":
    main(*sys.argv[1:])
