"""The whole system once: export, serve, index Python's documentation, ask questions, stop.

python -m examples.demo
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples import stdlib_corpus
from tridex.client import Client, SearchResult
from tridex.encoding import ArtifactError, latest_version_dir
from tridex.export.cli.export import export
from tridex.serving.metrics.stages import SEARCH_STAGES, StageTotal, read_stages
from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings

COLLECTION = "stdlib"
QUESTIONS = (
    "delete a directory and everything in it",
    "parse command line options",
    "round a number to the nearest even digit",
    "run a function in another process and get its result",
    "how do I read a compressed file line by line",
)

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".tridex"), help="folder for the corpus and the collections")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--port", type=int, default=8001, help="gRPC; HTTP and metrics take the next two")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)

    try:
        console.print(f"Encoder: {latest_version_dir(arguments.repository / 'encoder')}")
    except ArtifactError:
        export(repository=arguments.repository)

    settings = ServerSettings(
        repository=arguments.repository,
        store=arguments.data / "store",
        grpc_port=arguments.port,
        http_port=arguments.port + 1,
        metrics_port=arguments.port + 2,
    )
    server = TritonServer(settings)
    with console.status("starting Triton Inference Server"):
        started = time.perf_counter()
        server.start()
    try:
        with Client(server.address) as client:
            info = client.server_info()
            console.print(f"Server: {info.name} {info.version}, ready in {time.perf_counter() - started:.1f} s")
            index(client, arguments.data / "stdlib.jsonl")
            for question in QUESTIONS:
                ask(client, question, f"http://{server.host}:{server.ports['metrics']}/metrics")
    finally:
        server.stop()
    console.print("Server stopped. `make serve` starts it again with what was indexed.")


def index(client: Client, corpus: Path) -> None:
    """Indexes the corpus, unless an earlier run did."""
    rows = stdlib_corpus.load(corpus)
    total = len(rows)
    if any(info.name == COLLECTION and info.count == total for info in client.collections()):
        console.print(f"Collection: {COLLECTION!r} holds its {total} documents already")
        return
    started = time.perf_counter()
    documents = [{"id": row["_id"], "text": row["text"], "metadata": row["metadata"]} for row in rows]
    client.upsert(COLLECTION, documents, batch_size=64, show_progress_bar=True)
    elapsed = time.perf_counter() - started
    console.print(f"Collection: {COLLECTION!r}, {total} documents in {elapsed:.0f} s ({total / elapsed:.0f}/s)")


def ask(client: Client, question: str, metrics_url: str) -> None:
    """Asks one question, and prints the hits and the time of each stage."""
    before = read_stages(metrics_url)
    started = time.perf_counter()
    result = client.search(COLLECTION, question, top_k=5)
    total_ms = 1000 * (time.perf_counter() - started)
    console.print(hits_table(question, result))
    spent = ", ".join(f"{stage} {ms:.1f}" for stage, ms in spent_ms(metrics_url, before).items())
    # Their sum may exceed the total: the client may have the answer before the model is done with it.
    console.print(f"[dim]{total_ms:.1f} ms in all; {spent}[/]\n")


def spent_ms(metrics_url: str, before: dict[str, StageTotal]) -> dict[str, float]:
    """Milliseconds that one search has spent in each stage since `before`, by the server's own metrics."""
    since = dict.fromkeys(SEARCH_STAGES, StageTotal())
    deadline = time.monotonic() + 3.0
    # Models write what they have counted once a second.
    while not all(since[stage].requests for stage in SEARCH_STAGES) and time.monotonic() < deadline:
        time.sleep(0.1)
        since = {stage: total.since(before[stage]) for stage, total in read_stages(metrics_url).items()}
    return {stage: 1000 * since[stage].seconds for stage in SEARCH_STAGES}


def hits_table(question: str, result: SearchResult) -> Table:
    table = Table(title=question, title_justify="left", title_style="bold", box=None, pad_edge=False, expand=True)
    table.add_column("score", justify="right", style="cyan", no_wrap=True)
    table.add_column("id", style="green", overflow="fold")
    table.add_column("first line", overflow="ellipsis", no_wrap=True, ratio=1)
    for hit in result:
        # The text opens with the signature; its documentation follows.
        _, _, docstring = (hit.text or "").partition("\n")
        table.add_row(f"{hit.score:.2f}", hit.id, docstring.partition("\n")[0])
    return table


if __name__ == "__main__":
    main()
