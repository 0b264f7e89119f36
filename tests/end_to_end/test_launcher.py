"""`tridex serve` as an operator has it: what is closed, what ends with what, and how it stops."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton
from control_calls import CALLS, HEALTH_PATHS, METADATA_PATHS, answered_paths, ask
from eventually import eventually
from serve import Serve
from servers import lives
from triton_paths import http_paths
from tritonclient.utils import InferenceServerException

from tridex.client import Client, Document, TridexError, Unavailable


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


def test_it_listens_on_loopback_alone_unless_told_otherwise(served: Serve) -> None:
    assert served.listening >= {("127.0.0.1", port) for port in (served.grpc_port, served.http_port)}
    assert [address for address in served.listening if not ip_address(address[0]).is_loopback] == []


def test_what_tritonserver_tells_the_launcher_tells_others_no_more(served: Serve) -> None:
    """It listens on random addresses of this machine, which whoever is on it may find."""
    executable = Path(psutil.Process(served.process_of("encoder").ppid()).exe())
    named = {served.grpc_port, served.http_port, served.metrics_port}
    hidden = {address for address in served.listening if address[1] not in named}
    (metrics,) = [address for address in hidden if ask(address, "GET", "/metrics")[0] == HTTPStatus.OK]
    (http,) = hidden - {metrics}
    assert answered_paths(http, executable) == HEALTH_PATHS | METADATA_PATHS
    assert ask(http, "POST", "/v2/models/search/infer", "{}")[0] == HTTPStatus.FORBIDDEN
    told = {ask(metrics, verb, path) for path in http_paths(executable) for verb in ("GET", "POST")}
    assert [said for status, said in told if status == HTTPStatus.OK and said and not said.startswith("# HELP ")] == []


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


def test_a_log_on_a_full_disk_costs_records_and_no_request(served: Serve) -> None:
    """The launcher, which writes it, has no room in any file; its models have."""
    launcher = psutil.Process(served.launcher.pid)
    unlimited = launcher.rlimit(psutil.RLIMIT_FSIZE)
    victim = served.process_of("catalog")

    def suspended() -> None:
        victim.suspend()
        try:
            eventually(lambda: not served.ready)
        finally:
            victim.resume()
        eventually(lambda: served.ready)

    launcher.rlimit(psutil.RLIMIT_FSIZE, (served.log.stat().st_size, unlimited[1]))
    size = served.log.stat().st_size
    suspended()
    with Client(served.address, timeout_s=60) as client:
        assert client.upsert("docs", [Document("full", "written beside a full disk")]).version
        assert "full" in [hit.id for hit in client.search("docs", "late interaction")]
    assert served.log.stat().st_size == size
    launcher.rlimit(psutil.RLIMIT_FSIZE, unlimited)
    suspended()
    eventually(lambda: served.log.stat().st_size > size)


def test_a_stuck_process_that_was_handed_a_request_is_replaced_at_once(served: Serve) -> None:
    """Triton server gives up on it; where it goes on, it ends tritonserver, or itself."""
    victim = served.process_of("encoder")
    victim.suspend()
    with Client(served.address, timeout_s=60) as client, pytest.raises(Unavailable):
        client.upsert("docs", [Document("2", "a document", {})])
    eventually(lambda: "a model's process did not take a request for a second" in served.errors.read_text())
    eventually(lambda: served.ready, within_s=180)
    assert not lives(victim)
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
    assert [process for process in processes if lives(process)] == []
    assert served.left() == []
