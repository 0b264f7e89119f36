"""The memory of an idle server, process by process, once every collection has been searched.

python -m benchmarks.memory --data .tridex

PSS: memory that processes share counts in equal parts for each of them, so that the sum is what the server takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tridex.client import Client

from .environment import free_ports
from .processes import processes

START_S = 180.0
SETTLE_S = 5.0

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"), help="the folder with the store, as `make demo`")
    store = parser.parse_args().data / "store"
    grpc_port, http_port, metrics_port = map(str, free_ports(3))
    ports = ["--grpc-port", grpc_port, "--http-port", http_port, "--metrics-port", metrics_port]
    launcher = subprocess.Popen(
        [Path(sys.executable).with_name("tridex"), "serve", "--store", store, *ports, "--json"],
        stdout=subprocess.DEVNULL,
    )
    try:
        with Client(f"localhost:{grpc_port}", timeout_s=60) as client:
            deadline = time.monotonic() + START_S
            while not client.is_ready():
                if launcher.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the server did not start")
                time.sleep(1)
            collections = client.collections()
            for collection in collections:
                client.search(collection.name, "a question")
            time.sleep(SETTLE_S)
            show(launcher.pid, sum(collection.count for collection in collections))
    finally:
        launcher.terminate()
        launcher.wait()


def show(launcher: int, documents: int) -> None:
    """Prints the table of the launcher's processes."""
    started = psutil.Process(launcher).children(recursive=True)
    tritonserver = next(process for process in started if process.name() == "tritonserver")
    named = {"launcher": psutil.Process(launcher), **processes(tritonserver.pid)}
    watch = [process for process in started if process not in named.values()]
    bytes_of = {name: process.memory_full_info().pss for name, process in named.items()}
    bytes_of["others"] = sum(process.memory_full_info().pss for process in watch)
    table = Table("process", "PSS MB", title=f"{documents:,} documents")
    for name, size in {**bytes_of, "all": sum(bytes_of.values())}.items():
        table.add_row(name, f"{size / 1e6:,.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
