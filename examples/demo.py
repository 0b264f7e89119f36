"""Everything once, on a real server: export, serve, index Python's documentation, ask questions, stop.

python -m examples.demo
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples import stdlib_corpus
from tridex.client import Client, ModelStatistics, SearchResult
from tridex.encoding import ArtifactError, latest_version_dir
from tridex.export.cli import export
from tridex.serving.server import TritonServer

COLLECTION = "stdlib"
QUESTIONS = (
    "delete a directory and everything in it",
    "parse command line options",
    "round a number to the nearest even digit",
    "run a function in another process and get its result",
    "how do I read a compressed file line by line",
)
STAGES = {"tokenizer": "tokenise", "encoder": "encode", "maxsim": "score and fetch"}

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".tridex"), help="where corpus and collections go")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--port", type=int, default=8001, help="gRPC; HTTP and metrics take the next two")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)

    try:
        console.print(f"Encoder: {latest_version_dir(arguments.repository / 'encoder')}")
    except ArtifactError:
        export(repository=arguments.repository)

    server = TritonServer(
        arguments.repository,
        arguments.data / "store",
        grpc_port=arguments.port,
        http_port=arguments.port + 1,
        metrics_port=arguments.port + 2,
    )
    with console.status("starting Triton Inference Server"):
        started = time.perf_counter()
        server.start()
    try:
        with Client(server.address) as client:
            info = client.server_info()
            console.print(f"Server: {info.name} {info.version}, ready in {time.perf_counter() - started:.1f} s")
            index(client, arguments.data / "stdlib.jsonl")
            for question in QUESTIONS:
                ask(client, question)
    finally:
        server.stop()
    console.print("Server stopped. `make serve` starts it again with what was indexed.")


def index(client: Client, corpus: Path) -> None:
    """Indexes the corpus, unless the collection holds it from an earlier run."""
    rows = stdlib_corpus.load(corpus)
    total = len(rows)
    if any(there.name == COLLECTION and there.count == total for there in client.collections()):
        console.print(f"Collection: {COLLECTION!r} holds its {total} documents already")
        return
    started = time.perf_counter()
    documents = [{"id": row["_id"], "text": row["text"], "metadata": row["metadata"]} for row in rows]
    client.upsert(COLLECTION, documents, batch_size=64, show_progress_bar=True)
    elapsed = time.perf_counter() - started
    console.print(f"Collection: {COLLECTION!r}, {total} documents in {elapsed:.0f} s ({total / elapsed:.0f} a second)")


def ask(client: Client, question: str) -> None:
    """Asks one question and prints the hits and where the time went."""
    before = statistics(client)
    started = time.perf_counter()
    result = client.search(COLLECTION, question, top_k=5)
    total_ms = 1000 * (time.perf_counter() - started)
    spent = spent_ms(client, before)
    console.print(hits_table(question, result))
    stages = ", ".join(f"{label} {spent[model]:.1f}" for model, label in STAGES.items())
    # Together they may be more than the whole: a stage counts until it is free again, the next begins before that.
    console.print(f"[dim]{total_ms:.1f} ms in all; each stage until free again: {stages}[/]\n")


def statistics(client: Client) -> dict[str, ModelStatistics]:
    return {model.model: model for model in client.statistics() if model.model in STAGES}


def spent_ms(client: Client, before: dict[str, ModelStatistics]) -> dict[str, float]:
    """The time that each stage has computed since `before`, by the server's own count."""
    now = statistics(client)
    deadline = time.monotonic() + 1.0
    # The server counts a request after it has answered it.
    while any(now[name].requests == before[name].requests for name in STAGES) and time.monotonic() < deadline:
        now = statistics(client)
    return {name: compute_ms(now[name]) - compute_ms(before[name]) for name in STAGES}


def compute_ms(model: ModelStatistics) -> float:
    return model.requests * model.mean_compute_us / 1000


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
