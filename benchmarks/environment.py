"""The served system that the benchmarks measure, and what it serves."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples import stdlib_corpus
from tridex.building import Embedder, Progress, Summary, build_collection, document_reading, new_collection_spec
from tridex.client import Client, CodecName, Document
from tridex.encoding import Artifact, ArtifactError, Encoder, latest_version_dir, load_artifact
from tridex.export import export_default
from tridex.index import Store
from tridex.kernels import Codec
from tridex.protocol.parameters import LongDocumentsName
from tridex.protocol.sources import open_source
from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings

from .beir import read_beir
from .publishing import STDLIB

CODECS: tuple[CodecName, ...] = ("float16", "int8")
"""Each has a collection of the corpus."""


@dataclass(frozen=True)
class Corpus:
    """What a benchmark serves, and what it asks for."""

    name: str
    documents: list[Document]
    questions: list[str]
    long_documents: LongDocumentsName

    @property
    def size(self) -> str:
        """Name and documents, as tables say it."""
        return f"{self.name}, {len(self.documents):,} documents"

    def collection(self, codec: CodecName) -> str:
        """The collection that holds the corpus in this codec."""
        return f"{self.name}-{codec}"


def stdlib(data: Path) -> Corpus:
    """The documentation of Python's standard library, which is written into `data` on first use."""
    data.mkdir(parents=True, exist_ok=True)
    rows = stdlib_corpus.load(data / "stdlib.jsonl")
    documents = [Document(str(row["_id"]), str(row["text"]), row["metadata"]) for row in rows]
    return Corpus(STDLIB, documents, questions(rows, 500), "truncate")


def beir(folder: Path) -> Corpus:
    """A folder in BEIR's layout, with its judged queries; documents that the encoder cannot read at once in windows."""
    read = read_beir(folder)
    documents = [Document(key, text) for key, text in read.documents.items()]
    return Corpus(read.name, documents, list(read.queries.values()), "windows")


def chosen(folder: Path | None, data: Path) -> Corpus:
    """The BEIR folder's corpus, or the standard library's documentation where it is None; `data` is there then."""
    data.mkdir(parents=True, exist_ok=True)
    return beir(folder) if folder else stdlib(data)


def default_artifact(repository: Path) -> Artifact:
    """The repository's encoder; the default checkpoint is exported where there is none."""
    try:
        latest_version_dir(repository / "encoder")
    except ArtifactError:
        export_default(repository)
    return load_artifact(latest_version_dir(repository / "encoder"))


def write_jsonl(path: Path, documents: Iterable[Document]) -> Path:
    """The documents as a source of a build."""
    with path.open("w") as file:
        for one in documents:
            file.write(json.dumps({"_id": one.id, "text": one.text, "metadata": one.metadata}) + "\n")
    return path


def build(source: Path, store: Path, name: str, codec: Codec, artifact: Artifact, encoder: Encoder) -> Summary:
    """Builds a collection as `tridex index build` does."""
    spec = new_collection_spec(artifact, codec)
    embed = Embedder(artifact, encoder, document_reading(spec, artifact.manifest))
    return build_collection(open_source(source), Store(store), name, spec, embed, progress=Progress(quiet=True))


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def port_options(grpc_port: int, http_port: int, metrics_port: int) -> list[str]:
    """Of `tridex serve`."""
    return ["--grpc-port", str(grpc_port), "--http-port", str(http_port), "--metrics-port", str(metrics_port)]


@contextmanager
def served(
    corpus: Corpus, repository: Path, data: Path, arguments: tuple[str, ...] = ()
) -> Iterator[tuple[TritonServer, Client]]:
    """A server with the corpus in each of the codecs, and a client. `arguments` go to tritonserver."""
    default_artifact(repository)
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
        for codec in CODECS:
            name = corpus.collection(codec)
            if name not in existing:
                client.create_collection(name, codec=codec, long_documents=corpus.long_documents)
            if existing.get(name) != len(corpus.documents):
                client.upsert(name, corpus.documents, batch_size=64, show_progress_bar=True)
        yield server, client


def questions(rows: list[dict[str, object]], count: int) -> list[str]:
    """First sentences of the documentation, which resemble what a person would ask."""
    sentences = [str(row["text"]).partition("\n")[2].partition(".")[0].replace("\n", " ") for row in rows]
    usable = sorted({sentence for sentence in sentences if 4 <= len(sentence.split()) <= 16})
    return random.Random(0).sample(usable, count)


def no_infer(model: str, inputs: Any, outputs: Any) -> dict[str, Any]:  # noqa: ARG001
    """In a Context, for services that call no other model."""
    raise AssertionError("no other model is called")
