"""The served system that the benchmarks measure, and the words that say on what machine it ran."""

from __future__ import annotations

import json
import os
import platform
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from examples import stdlib_corpus
from tridex.client import Client
from tridex.encoding import ArtifactError, latest_version_dir
from tridex.export import export_default
from tridex.serving.server import TritonServer

COLLECTION = "stdlib"
RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    packages = ("numpy", "onnxruntime", "torch", "nvidia-pytriton")
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@contextmanager
def served_stdlib(repository: Path, data: Path) -> Iterator[tuple[TritonServer, Client, list[dict[str, object]]]]:
    """A server over the standard library's documentation, a client, and the corpus."""
    data.mkdir(parents=True, exist_ok=True)
    try:
        latest_version_dir(repository / "encoder")
    except ArtifactError:
        export_default(repository)
    rows = stdlib_corpus.load(data / "stdlib.jsonl")
    grpc_port, http_port, metrics_port = free_ports(3)
    server = TritonServer(
        repository, data / "store", grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port
    )
    with server, Client(server.address, timeout_s=120) as client:
        if not any(there.name == COLLECTION and there.count == len(rows) for there in client.collections()):
            documents = [{"id": row["_id"], "text": row["text"], "metadata": row["metadata"]} for row in rows]
            client.upsert(COLLECTION, documents, batch_size=64, show_progress_bar=True)
        yield server, client, rows


def questions(rows: list[dict[str, object]], count: int) -> list[str]:
    """First sentences of the documentation, which is how a person might ask for what they describe."""
    sentences = [str(row["text"]).partition("\n")[2].partition(".")[0].replace("\n", " ") for row in rows]
    usable = sorted({sentence for sentence in sentences if 4 <= len(sentence.split()) <= 16})
    return random.Random(0).sample(usable, count)


def publish(name: str, results: dict[str, object], table: str) -> None:
    """Keeps the figures under benchmarks/results/ and puts the table between its marks in docs/benchmarks.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    text = DOCS.read_text()
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    where = ", ".join(f"{key} {value}" for key, value in machine().items())
    DOCS.write_text(f"{before}{begin}{table}\n\nMeasured on: {where}.\n{end}{after}")
