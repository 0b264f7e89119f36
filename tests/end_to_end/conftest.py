"""A real Triton server over the default checkpoint, shared by every test of this folder.

Of package scope, which needs the __init__.py: it stops before tests of other folders make the calls of its supervisor
fail, which is a thread of this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import free_ports, new_server

from examples import stdlib_corpus
from tridex.client import Client
from tridex.export import export_checkpoint, write_default_checkpoint
from tridex.serving.server import TritonServer


@pytest.fixture(scope="package", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for all servers: each would compile for 9 s, as its store is new."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRIDEX_KERNEL_CACHE", str(tmp_path_factory.getbasetemp() / "kernel-cache"))
        yield


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default checkpoint, as Sentence Transformers loads it."""
    return write_default_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="package")
def repository(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with that checkpoint exported as fp32."""
    folder = tmp_path_factory.mktemp("repository")
    export_checkpoint(str(checkpoint), repository=folder, precision="fp32")
    return folder


@pytest.fixture(scope="package")
def collector() -> str:
    """Where the server sends traces. Nothing listens there unless a test does."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture(scope="package")
def server(repository: Path, collector: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRIDEX_RECALL_SAMPLE_RATE", "1")
        environment.setenv("TRIDEX_OTLP_ENDPOINT", collector)
        environment.setenv("TRIDEX_TRACE_SAMPLE_RATE", "0")  # only where a caller asks for it
        with new_server(repository, tmp_path_factory.mktemp("data") / "store", http_inference=True) as server:
            yield server


@pytest.fixture
def client(server: TritonServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="package")
def stdlib(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The standard library's documentation."""
    return stdlib_corpus.load(tmp_path_factory.mktemp("corpus") / "stdlib.jsonl")
