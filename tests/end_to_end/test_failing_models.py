"""A model that lives and cannot work: it is noticed, and a new server takes the old one's place. And one at work while
the server stops: its work is finished."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kserve
import numpy as np
import pytest
from eventually import eventually
from scraping import scrape
from servers import lives, new_server

from benchmarks.processes import processes
from tridex.client import Client, Hit, Unavailable
from tridex.protocol import models, parameters
from tridex.serving.server import TritonServer

FAULT = "the query at which the first server fails"
FREEZE = "the query that holds the interpreter"
WAIT = "the query that waits"
CALL_S = 300.0
"""More than any answer takes."""
FAULTY = f"""
import ctypes
import time
from pathlib import Path
import torch
from tridex.serving.backend import canary
from tridex.serving.backend.python_backend import python_model
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.models.search import SearchService

start, folder = SearchEngine.start, Path(__file__).parent
failed, waits, may_go_on = folder / "failed", folder / "waits", folder / "may_go_on"
with (folder / "loaded").open("a") as loaded:
    loaded.write("once ")

def faulty(self, requests):
    texts = [text for request in requests for text in request.texts]
    if {FAULT!r} in texts and not failed.exists():
        failed.touch()
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    if {FREEZE!r} in texts:
        ctypes.PyDLL(None).sleep(1000)
    if {WAIT!r} in texts:
        waits.touch()
        while not may_go_on.exists():
            time.sleep(0.01)
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
    with new_server(folder / "models", folder / "store", stop_timeout_s=CALL_S) as server:
        with Client(server.address, timeout_s=120) as client:
            client.create_collection("c", codec="float32")
            client.upsert("c", [{"id": "a", "text": "a planet"}, {"id": "b", "text": "an ocean"}])
            assert len(client.search("c", "a planet").hits) == 2  # which waits for them
        yield server


def hits(server: TritonServer, query: str) -> list[Hit]:
    with Client(server.address, timeout_s=120) as client:  # another's channel may pause between attempts to connect
        return client.search("c", query).hits


def ask(server: TritonServer, query: str, timeout_s: float = CALL_S) -> kserve.Answer:
    """A search that nobody retries."""
    about = {parameters.COLLECTION: "c", "timeout": int(CALL_S * 1e6)}
    request = kserve.request(models.SEARCH.name, {models.QUERY.name: [[query]]}, [models.IDS.name], **about)
    return kserve.infer(kserve.channel(server.address), request, timeout_s)


def in_flight(server: TritonServer) -> float:
    """Requests that the search model works on."""
    return scrape(server)[1].get(("tridex_requests_in_flight", frozenset({("model", "search")})), 0)


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


def test_a_call_to_a_model_that_freezes_is_told_so_long_before_its_deadline(server: TritonServer) -> None:
    """Its threads stand still but for the Python backend's own, so that Triton server does not give up on it."""
    first = server.pid
    with ThreadPoolExecutor() as pool:
        call = pool.submit(ask, server, FREEZE)
        replaced(server, first)
        assert call.result().status == "UNAVAILABLE"
    assert re.search(r"model search: its process \d+ said nothing for 5 s", server.log.read_text())


def test_a_server_that_stops_answers_what_it_has_begun_and_begins_nothing(server: TritonServer) -> None:
    folder = server.repository / "search" / "1"
    all_processes = processes(server.pid).values()
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(ask, server, WAIT)
        eventually((folder / "waits").exists)
        late = pool.submit(ask, server, "a planet", 5)
        eventually(lambda: in_flight(server) == 2)
        server.begin_to_stop()
        eventually(lambda: ask(server, "an ocean", 1).status == "UNAVAILABLE")
        with pytest.raises(Unavailable, match="the server is stopping"):
            hits(server, "an ocean")
        assert late.result().status == "DEADLINE_EXCEEDED"
        assert not begun.done()
        (folder / "may_go_on").touch()
        assert begun.result().status == "OK"
        server.stop()
    assert not any(map(lives, all_processes))
