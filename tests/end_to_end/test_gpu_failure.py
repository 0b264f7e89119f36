"""A GPU that fails in the middle of a batch: nobody gets a wrong answer, and a new server takes the old one's place.

The error is raised as torch raises it; what it does to a process, only a GPU shows (tests/gpu/test_server.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from eventually import eventually
from servers import new_server

from tridex.client import Client, Unavailable

FAULT = "the query at which the first server fails"
FAULTY = f"""
from pathlib import Path
import torch
from tridex.serving.backend.python_backend import python_model
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.models.search import SearchService

start, failed = SearchEngine.start, Path(__file__).with_name("failed")

def faulty(self, requests):
    if any({FAULT!r} in request.texts for request in requests) and not failed.exists():
        failed.touch()
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    return start(self, requests)

SearchEngine.start = faulty
TritonPythonModel = python_model(SearchService)
"""


def test_a_server_whose_gpu_fails_is_started_again(repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(repository, models)
    (models / "search" / "1" / "model.py").write_text(FAULTY)
    with new_server(models, tmp_path / "store") as server, Client(server.address, timeout_s=120) as client:
        client.create_collection("c", codec="float32")
        client.upsert("c", [{"id": "a", "text": "a planet"}, {"id": "b", "text": "an ocean"}])
        expected = client.search("c", FAULT + ".")
        first = server.pid
        with pytest.raises(Unavailable):  # the client retries for a second, and a start takes more
            client.search("c", FAULT)
        eventually(lambda: server.is_ready, within_s=600)
        assert server.pid != first
        with Client(server.address, timeout_s=120) as later:  # The other's channel pauses between attempts to connect.
            found = later.search("c", FAULT)
        assert [hit.id for hit in found.hits] == [hit.id for hit in expected.hits]
        assert "the GPU failed: CUDA error: an illegal memory access" in server.log.read_text()
