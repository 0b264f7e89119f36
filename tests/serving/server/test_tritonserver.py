"""The life of a server's processes, with a shell in tritonserver's place."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from eventually import eventually
from servers import free_ports, lives

from tridex.serving.gate import GateLane
from tridex.serving.run_folder import RunFolder
from tridex.serving.server import tritonserver
from tridex.serving.server.errors import ServerError
from tridex.serving.server.leftovers import own_prefix
from tridex.serving.server.tritonserver import TritonProcess

TWO_PROCESSES = ["/bin/sh", "-c", "umask; sleep 1000 & echo began; wait"]


def made(folder: Path, command: list[str], port: int | None = None) -> TritonProcess:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    port = port or free_ports(1)[0]
    return TritonProcess(
        command,
        os.environ,
        log=log,
        run=RunFolder(folder / "run"),
        address=("127.0.0.1", port),
        memory_prefix=f"{own_prefix()}{port}-",
    )


@contextmanager
def running(folder: Path, command: list[str] = TWO_PROCESSES, port: int | None = None) -> Iterator[TritonProcess]:
    process = made(folder, command, port)
    server = psutil.Process(process.pid)
    eventually(lambda: "began" in (folder / "log").read_text() or not lives(server))
    yield process
    process.kill()


def report(folder: Path, at_s: float, trouble: str | None = None, stuck: str | None = None, in_flight: int = 0) -> None:
    said = {"model": "ingest", "pid": 7, "at_s": at_s, "in_flight": in_flight, "phase": "serving", "closed": False}
    (folder / "run" / "ingest_0.json").write_text(json.dumps({**said, "trouble": trouble, "stuck": stuck}))


def refused(folder: Path) -> set[GateLane]:
    """Lanes that the front ends are told to refuse."""
    rows = struct.iter_unpack("=IIQIIQ", (folder / "run" / "gate").read_bytes()[8:])
    return {lane for lane, row in zip(GateLane, rows, strict=True) if row[3]}


def let_through(folder: Path, lane: GateLane) -> None:
    """As the guard notes that a request has come."""
    with (folder / "run" / "gate").open("r+b") as gate:
        gate.seek(8 + 32 * lane + 24)
        gate.write(struct.pack("=Q", time.monotonic_ns()))


def give_up(folder: Path) -> None:
    """As the guard does."""
    with (folder / "run" / "gate").open("r+b") as gate:
        gate.write(b"\1")


def test_killing_it_ends_all_that_it_started(tmp_path: Path) -> None:
    region = Path("/dev/shm") / f"{own_prefix()}left-by-nobody"
    region.touch()
    with running(tmp_path) as process:
        below = psutil.Process(process.pid).children()
        assert len(below) == 2  # its own and the guard
        assert (tmp_path / "log").read_text().split() == ["0077", "began"]
    assert not any(map(lives, below))
    assert region.exists()
    region.unlink()


PR_SET_CHILD_SUBREAPER = 36
KILLER = """
import pathlib, sys
sys.path[:0] = sys.argv[2:]
from test_tritonserver import TWO_PROCESSES, made
from tridex.serving.server import tritonserver
tritonserver._GONE_S = 1000
process = made(pathlib.Path(sys.argv[1]), TWO_PROCESSES)
print(process.pid, flush=True)
sys.stdin.readline()
process.kill()
print("killed", flush=True)
"""


def test_killing_it_waits_for_no_zombies_of_others(tmp_path: Path) -> None:
    """Its orphans become this process's, which takes no note of their end, as a slow init does for seconds."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(here), str(here.parents[1] / "support")]
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    launcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        server = int(launcher.stdout.readline())
        eventually(lambda: "began" in (tmp_path / "log").read_text())
        below = psutil.Process(server).children()
        assert launcher.communicate("\n", timeout=60)[0] == "killed\n"
        assert [p.status() for p in below] == [psutil.STATUS_ZOMBIE] * 2
        for orphan in below:
            os.waitpid(orphan.pid, 0)
    finally:
        launcher.kill()
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        below = psutil.Process(process.pid).children()
        psutil.Process(process.pid).kill()
        eventually(lambda: not any(map(lives, below)))
        assert process.failure() == "tritonserver ended with status -9"


LAUNCHER = """
import pathlib, sys, time
sys.path[:0] = sys.argv[2:]
from test_tritonserver import TWO_PROCESSES, made
print(made(pathlib.Path(sys.argv[1]), TWO_PROCESSES).pid, flush=True)
time.sleep(60)
"""


def test_all_ends_with_the_launcher(tmp_path: Path) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path), str(here), str(here.parents[1] / "support")]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE)
    server = int(launcher.stdout.readline())
    eventually(lambda: "began" in (tmp_path / "log").read_text())
    processes = [psutil.Process(server), *psutil.Process(server).children()]
    assert len(processes) == 3
    launcher.kill()
    launcher.wait()
    eventually(lambda: not any(map(lives, processes)))


def test_a_program_that_cannot_be_run_or_never_answers(tmp_path: Path) -> None:
    with running(tmp_path, ["/no/such/program"]) as process:
        with pytest.raises(ServerError, match="ended with status 1 while starting"):
            process.wait_until_ready(10, threading.Event())
        assert "/no/such/program cannot be run: No such file or directory" in (tmp_path / "log").read_text()


def test_a_start_has_a_limit_and_can_be_cancelled(tmp_path: Path) -> None:
    cancelled = threading.Event()
    with running(tmp_path) as process:
        with pytest.raises(ServerError, match="not ready after 0 s"):
            process.wait_until_ready(0.3, cancelled)
        cancelled.set()
        assert process.wait_until_ready(10, cancelled) is False


class _Ready(BaseHTTPRequestHandler):
    """Of a tritonserver that is ready."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def ready() -> Iterator[ThreadingHTTPServer]:
    """What says so, and the connections that it has had."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as server:
        server.connections = []
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_it_is_not_ready_without_its_guard(tmp_path: Path) -> None:
    with ready() as server, running(tmp_path, port=server.server_port) as process:
        with pytest.raises(ServerError, match="without its guard"):
            process.wait_until_ready(60, threading.Event())
        with (tmp_path / "run" / "gate").open("r+b") as gate:
            gate.seek(4)
            gate.write(b"\1")
        assert process.wait_until_ready(60, threading.Event())


def test_it_is_asked_on_a_connection_that_is_kept(tmp_path: Path) -> None:
    """Clients may have taken every file descriptor that it would need for another."""
    with ready() as server, running(tmp_path, port=server.server_port) as process:
        for _ in range(3):
            assert process._readiness.ask()
        (kept,) = server.connections
        kept.shutdown(socket.SHUT_RDWR)
        assert process._readiness.ask()
        assert len(server.connections) == 2


def test_it_may_open_as_many_files_as_the_system_lets_it(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard - 1), hard))
    try:
        with running(tmp_path) as process:
            assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_model_in_trouble_or_silent_is_told_and_replaced_when_it_stays_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tritonserver, "_SILENT_S", 0.3)
    monkeypatch.setattr(tritonserver, "_STUCK_S", 3.0)
    monkeypatch.setattr(tritonserver, "_AWAITED_S", 3.0)
    with running(tmp_path) as process:
        began = time.monotonic()
        report(tmp_path, began, trouble="its thread is dead")
        assert process.failure() is None
        assert process.trouble() == "model ingest: its thread is dead"
        assert refused(tmp_path) == set()
        report(tmp_path, began, trouble="it hangs", stuck="it hangs")
        assert process.trouble() == "model ingest: it hangs"
        assert refused(tmp_path) == {GateLane.INGEST}
        report(tmp_path, began)
        eventually(lambda: process.failure() is None and process.trouble() == "model ingest: its process 7 is stuck")
        assert refused(tmp_path) == {GateLane.INGEST}
        eventually(lambda: process.failure() == "model ingest: its process 7 said nothing for 3 s")
        assert time.monotonic() - began > 3
        report(tmp_path, time.monotonic())
        assert process.trouble() == "tritonserver is not ready"
        assert refused(tmp_path) == set()
        assert process.failure() == "tritonserver said nothing for 3 s"
        give_up(tmp_path)
        assert process.failure() == "a model's process did not take a request for a second"


def test_what_is_silent_is_replaced_sooner_where_requests_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tritonserver, "_AWAITED_S", 0.3)
    with running(tmp_path) as process:
        began = time.monotonic()
        report(tmp_path, began)
        eventually(lambda: process.failure() == "tritonserver said nothing for 0 s")
        report(tmp_path, began, in_flight=1)
        eventually(lambda: process.failure() == "model ingest: its process 7 said nothing for 0 s")
        report(tmp_path, began)
        eventually(lambda: process.failure() == "tritonserver said nothing for 0 s")
        let_through(tmp_path, GateLane.CATALOG)
        assert process.failure() == "tritonserver said nothing for 0 s"
        let_through(tmp_path, GateLane.INGEST)
        assert process.failure() == "model ingest: its process 7 said nothing for 0 s"
