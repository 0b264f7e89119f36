"""A model that lives and cannot work: it is noticed, and a new server takes the old one's place."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from eventually import eventually
from servers import new_server

from benchmarks.processes import processes
from tridex.client import Client, Hit, Unavailable
from tridex.serving.server import TritonServer

FAULT = "the query at which the first server fails"
FAULTY = f"""
from pathlib import Path
import torch
from tridex.serving.backend import canary
from tridex.serving.backend.python_backend import python_model
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.models.search import SearchService

start, failed = SearchEngine.start, Path(__file__).with_name("failed")
with Path(__file__).with_name("loaded").open("a") as loaded:
    loaded.write("once ")

def faulty(self, requests):
    if any({FAULT!r} in request.texts for request in requests) and not failed.exists():
        failed.touch()
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    return start(self, requests)

SearchEngine.start = faulty
canary._EVERY_S = 0.5
TritonPythonModel = python_model(SearchService)
"""


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("failing")
    shutil.copytree(repository, folder / "models")
    (folder / "models" / "search" / "1" / "model.py").write_text(FAULTY)
    with new_server(folder / "models", folder / "store") as server:
        with Client(server.address, timeout_s=120) as client:
            client.create_collection("c", codec="float32")
            client.upsert("c", [{"id": "a", "text": "a planet"}, {"id": "b", "text": "an ocean"}])
            assert len(client.search("c", "a planet").hits) == 2  # which waits for them
        yield server


def hits(server: TritonServer, query: str) -> list[Hit]:
    with Client(server.address, timeout_s=120) as client:  # another's channel may pause between attempts to connect
        return client.search("c", query).hits


def replaced(server: TritonServer, first: int) -> None:
    """Waits for the next server."""
    eventually(lambda: not server.is_ready)
    eventually(lambda: server.is_ready, within_s=600)
    assert server.pid != first


def test_a_start_loads_a_model_once(server: TritonServer) -> None:
    """Triton server would load each twice, to complete its configuration."""
    loaded = (server.repository / "search" / "1" / "loaded").read_text().count("once")
    assert loaded == server.log.read_text().count("starts on cpu with store")


def test_a_server_whose_gpu_fails_is_started_again(server: TritonServer) -> None:
    """The error is raised as torch raises it; what it does to a process, only a GPU shows, tests/gpu/test_server.py."""
    expected = hits(server, FAULT + ".")
    first = server.pid
    with pytest.raises(Unavailable):  # the client retries for a second, and a start takes more
        hits(server, FAULT)
    replaced(server, first)
    assert [hit.id for hit in hits(server, FAULT)] == [hit.id for hit in expected]
    assert "the GPU failed: CUDA error: an illegal memory access" in server.log.read_text()


def test_a_server_whose_answers_are_wrong_is_not_ready_and_started_again(server: TritonServer) -> None:
    """Its encoder's weights change in memory: half of the file that its processes map."""
    expected = hits(server, "a planet")
    first = server.pid
    maps = processes(first)["search"].memory_maps()
    weights = next(Path(one.path) for one in maps if one.path.endswith("/weights"))
    half = weights.stat().st_size // 2 // 4
    with weights.open("r+b") as file:
        file.seek(4 * half)
        file.write(np.random.default_rng(0).standard_normal(half, np.float32).tobytes())
    replaced(server, first)
    assert hits(server, "a planet") == expected
    wrong = r"model search: its canary was answered wrongly: it is \d+% away from the first one; expected at most 10%"
    log = server.log.read_text()
    assert re.search(f"not ready: {wrong}", log)
    assert re.search(f"{wrong}; starting the server again", log)
