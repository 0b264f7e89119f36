"""`tridex serve` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import psutil
from control_calls import ask
from servers import free_ports

from tridex.serving.server.leftovers import prefix_of


class Serve:
    """A `tridex serve`, ready when made."""

    def __init__(self, repository: Path, folder: Path, *options: str, store: Path | None = None) -> None:
        """`store`: another server's; else one of its own."""
        self.grpc_port, self.http_port, self.metrics_port = free_ports(3)
        self.store = store or folder / "data" / "store"
        self.log = folder / "data" / "store.log"
        self.errors = folder / "errors"
        self.command = [
            *(str(Path(sys.executable).with_name("tridex")), "serve", "--json"),
            *("--repository", str(repository), "--store", str(self.store)),
            *("--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port)),
            *("--metrics-port", str(self.metrics_port)),
            *(("--log", str(self.log)) if store else ()),
            *options,
        ]
        with self.errors.open("w") as errors:
            self.launcher = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=errors)
        ready = self.launcher.stdout.readline()
        assert ready, self.errors.read_text()
        self.ready_at = datetime.now(timezone.utc)
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
        return ask(("127.0.0.1", self.http_port), method, path, body)

    @property
    def ready(self) -> bool:
        try:
            return self.get("/v2/health/ready")[0] == 200
        except ConnectionError:
            return False

    @property
    def listening(self) -> set[tuple[str, int]]:
        """Addresses and ports that the launcher and its processes listen on."""
        return {
            (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
            for process in (psutil.Process(self.launcher.pid), *self.processes)
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }

    def left(self) -> list[str]:
        """What it has in shared memory and among temporary files."""
        left = f"{prefix_of(self.launcher.pid)}*"
        return [str(path) for place in ("/dev/shm", "/tmp") for path in Path(place).glob(left)]

    def end(self) -> None:
        self.launcher.terminate()
        self.launcher.wait(60)
