"""The served system that the benchmarks measure."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples import stdlib_corpus
from tridex.client import Client, CodecName
from tridex.encoding import ArtifactError, latest_version_dir
from tridex.export import export_default
from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings

CODECS: tuple[CodecName, ...] = ("float16", "int8")
"""Each has a collection of the corpus."""


def collection(codec: str) -> str:
    """The collection that holds the corpus in this codec."""
    return f"stdlib-{codec}"


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
def served_stdlib(
    repository: Path, data: Path, arguments: tuple[str, ...] = ()
) -> Iterator[tuple[TritonServer, Client, list[dict[str, object]]]]:
    """A server over the standard library's documentation, a client, and the corpus. `arguments` go to tritonserver."""
    data.mkdir(parents=True, exist_ok=True)
    try:
        latest_version_dir(repository / "encoder")
    except ArtifactError:
        export_default(repository)
    rows = stdlib_corpus.load(data / "stdlib.jsonl")
    grpc_port, http_port, metrics_port = free_ports(3)
    settings = ServerSettings(
        repository=repository,
        store=data / "store",
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
    )
    server = TritonServer(settings, arguments=arguments)
    with server, Client(server.address, timeout_s=120) as client:
        existing = {found.name: found.count for found in client.collections()}
        documents = [{"id": row["_id"], "text": row["text"], "metadata": row["metadata"]} for row in rows]
        for codec in CODECS:
            if collection(codec) not in existing:
                client.create_collection(collection(codec), codec=codec, long_documents="truncate")
            if existing.get(collection(codec)) != len(rows):
                client.upsert(collection(codec), documents, batch_size=64, show_progress_bar=True)
        yield server, client, rows


def questions(rows: list[dict[str, object]], count: int) -> list[str]:
    """First sentences of the documentation, which resemble what a person would ask."""
    sentences = [str(row["text"]).partition("\n")[2].partition(".")[0].replace("\n", " ") for row in rows]
    usable = sorted({sentence for sentence in sentences if 4 <= len(sentence.split()) <= 16})
    return random.Random(0).sample(usable, count)
