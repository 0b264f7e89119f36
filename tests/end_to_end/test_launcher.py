"""`tridex serve` as an operator has it: what is closed, what ends with what, and how it stops."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton
from control_calls import CALLS
from eventually import eventually
from servers import free_ports
from tritonclient.utils import InferenceServerException

from tridex.client import Client, Document, TridexError, Unavailable
from tridex.serving.server.leftovers import prefix_of, remove_leftovers


class Serve:
    """A `tridex serve` of its own, ready when made."""

    def __init__(self, repository: Path, folder: Path, *options: str) -> None:
        self.grpc_port, self.http_port, self.metrics_port = free_ports(3)
        self.store = folder / "data" / "store"
        self.log = folder / "data" / "store.log"
        self.errors = folder / "errors"
        self.command = [
            *(str(Path(sys.executable).with_name("tridex")), "serve", "--json"),
            *("--repository", str(repository), "--store", str(self.store)),
            *("--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port)),
            *("--metrics-port", str(self.metrics_port)),
            *options,
        ]
        with self.errors.open("w") as errors:
            self.launcher = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=errors)
        ready = self.launcher.stdout.readline()
        assert ready, self.errors.read_text()
        self.address = json.loads(ready)["address"]

    @property
    def processes(self) -> list[psutil.Process]:
        """tritonserver, and what it started."""
        return psutil.Process(self.launcher.pid).children(recursive=True)

    def process_of(self, model: str) -> psutil.Process:
        (process,) = [process for process in self.processes if f"/{model}/1/model.py" in " ".join(process.cmdline())]
        return process

    def get(self, path: str, method: str = "GET", body: str | None = None) -> tuple[int, str]:
        """Status and body, over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    @property
    def ready(self) -> bool:
        try:
            return self.get("/v2/health/ready")[0] == 200
        except ConnectionError:
            return False

    def left(self) -> list[str]:
        """What it has in shared memory and among temporary files."""
        prefix = f"{prefix_of(self.launcher.pid)}*"
        return [str(path) for place in ("/dev/shm", "/tmp") for path in Path(place).glob(prefix)]

    def end(self) -> None:
        self.launcher.terminate()
        self.launcher.wait(60)


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    served = Serve(repository, tmp_path_factory.mktemp("served"))
    with Client(served.address, timeout_s=60) as client:
        client.upsert("docs", [Document("1", "late interaction keeps every token", {})])
    yield served
    served.end()


def test_health_is_all_there_is_over_http(served: Serve) -> None:
    assert served.get("/v2/health/live") == (200, "")
    eventually(lambda: served.get("/v2/health/ready") == (200, ""))
    assert served.get("/v2/models/search/infer", "POST", "{}")[0] == 501
    for name in CALLS.keys() - {"live", "ready"}:
        assert CALLS[name].over_http(("127.0.0.1", served.http_port))[0] in (404, 501), name
    tritonserver = psutil.Process(served.process_of("encoder").ppid())
    listening = {c.laddr for c in tritonserver.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert {port for _, port in listening} & {served.http_port, served.metrics_port} == set()


def test_files_are_for_their_owner_alone(served: Serve) -> None:
    regions = [path for path in served.left() if path.startswith("/dev/shm")]
    assert regions
    files = [served.log, *map(Path, regions), *(path for path in served.store.rglob("*"))]
    assert len(files) > 10
    open_to_others = {str(path): oct(path.stat().st_mode) for path in files if path.stat().st_mode & 0o077}
    assert open_to_others == {}
    assert served.store.stat().st_mode & 0o777 == 0o700


def test_a_model_process_that_dies_is_seen_at_once_and_brought_back(served: Serve) -> None:
    victim = served.process_of("encoder")
    victim.kill()
    eventually(lambda: not served.ready)
    with triton.InferenceServerClient(served.address) as raw:
        with pytest.raises(InferenceServerException) as refused:
            raw.get_server_metadata(client_timeout=10)
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
    assert served.get("/v2/health/live")[0] == 200
    eventually(lambda: served.ready, within_s=180)
    with Client(served.address, timeout_s=60) as client:
        assert [hit.id for hit in client.search("docs", "late interaction")] == ["1"]
    message = f"model encoder: its process {victim.pid} died; starting the server again"
    assert message in served.errors.read_text()
    log = served.log.read_text()
    assert message in log
    assert log.count("starts on cpu with store") == 2


def test_what_a_stuck_process_has_to_answer_is_unavailable_until_it_goes_on(served: Serve) -> None:
    victim = served.process_of("catalog")
    with Client(served.address, timeout_s=60) as client:
        victim.suspend()
        try:
            eventually(lambda: not served.ready)
            with pytest.raises(Unavailable, match=r"a process that it needs is stuck.*after 5 attempts"):
                client.count("docs")
            assert [hit.id for hit in client.search("docs", "late interaction")] == ["1"]
        finally:
            victim.resume()
        eventually(lambda: served.ready)
        assert client.count("docs") == 1
    assert f"not ready: model catalog: its process {victim.pid} is stuck" in served.errors.read_text()


def test_a_stuck_process_that_was_handed_a_request_is_replaced_at_once(served: Serve) -> None:
    """Triton server gives up on it; where it goes on, it ends tritonserver, or itself."""
    victim = served.process_of("encoder")
    victim.suspend()
    with Client(served.address, timeout_s=60) as client, pytest.raises(Unavailable):
        client.upsert("docs", [Document("2", "a document", {})])
    eventually(lambda: "a model's process did not take a request for a second" in served.errors.read_text())
    eventually(lambda: served.ready, within_s=180)
    assert not victim.is_running()
    with Client(served.address, timeout_s=60) as client:
        assert client.upsert("docs", [Document("2", "a document", {})]).version
        assert client.search("docs", "late interaction")[0].id == "1"


def test_ending_it_under_load_tells_callers_that_it_is_unavailable(served: Serve) -> None:
    told: Counter[str] = Counter()
    over = threading.Event()

    def load(i: int) -> None:
        with Client(served.address, timeout_s=30) as client:
            while not over.is_set():
                try:
                    if i % 2:
                        client.search("docs", "late interaction")
                    else:
                        client.upsert("docs", [Document(f"{i}", "a document", {})])
                    told["answered"] += 1
                except TridexError as error:
                    told[type(error).__name__] += 1

    threads = [threading.Thread(target=load, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2)
        processes = served.processes
        served.launcher.send_signal(signal.SIGTERM)
        eventually(lambda: not served.ready)
        assert served.launcher.wait(30) == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert told["answered"] > 10
    assert told.keys() == {"answered", "Unavailable"}
    assert [process for process in processes if process.is_running()] == []
    assert served.left() == []


def test_a_second_one_names_who_has_the_port_and_all_ends_with_the_launcher(repository: Path, tmp_path: Path) -> None:
    served = Serve(repository, tmp_path)
    second = subprocess.run(served.command, check=False, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"grpc port {served.grpc_port} on 127.0.0.1 is in use by process {served.launcher.pid}" in second.stderr
    assert second.stderr.count("\n") == 1

    processes = served.processes
    assert served.process_of("encoder") in processes
    served.launcher.kill()
    eventually(lambda: not any(map(_lives, processes)))
    served.launcher.wait()
    remove_leftovers()
    assert served.left() == []


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
