"""One trace from a LangChain chain to the kernel, printed as a tree. This program is its own OTLP collector; any other
that speaks OTLP over HTTP, as Jaeger or Phoenix, takes its place.

tridex serve --otlp-endpoint http://localhost:4318
python -m examples.tracing --address localhost:8001 --listen 4318
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnablePassthrough
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
        self.send_response(200)
        self.end_headers()


def tree(spans: Sequence[Span], parent: bytes = b"", indent: str = "") -> Iterator[str]:
    """A line a span, below its parent's."""
    children = [span for span in spans if span.parent_span_id == parent]
    for span in sorted(children, key=lambda span: span.start_time_unix_nano):
        yield f"{indent}{span.name}: {(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6:.2f} ms"
        yield from tree(spans, span.span_id, indent + "  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="localhost:8001")
    parser.add_argument("--listen", type=int, default=4318)
    arguments = parser.parse_args()
    collector = ThreadingHTTPServer(("127.0.0.1", arguments.listen), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    provider = TracerProvider()
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{arguments.listen}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    store = TridexVectorStore("tracing", arguments.address)
    store.add_texts(PASSAGES.values(), ids=list(PASSAGES))
    retriever = TridexRetriever(collection="tracing", connection=store.connection, k=2)
    model = FakeListChatModel(responses=["(the answer of a model)"])
    chain = {"context": retriever | as_text, "question": RunnablePassthrough()} | PROMPT | model

    trace.set_tracer_provider(provider)
    with trace.get_tracer(__name__).start_as_current_span("chain"):
        chain.invoke(QUESTION)
    deadline = time.monotonic() + 10
    while not any(span.kind == Span.SPAN_KIND_SERVER for span in SPANS) and time.monotonic() < deadline:
        time.sleep(0.1)  # The server sends its spans once a second.
    print("\n".join(tree(SPANS)))


if __name__ == "__main__":
    main()
