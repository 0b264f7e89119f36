"""Seconds from `tridex serve` until it is ready, without and with what the start before has compiled.

    python -m benchmarks.start

Over a store that uses one codec, as on a machine that has just been set up and at each later start. Files are in the
system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.markdown import Markdown

from tridex.common.device import resolve_device
from tridex.encoding import create_encoder
from tridex.kernels import Codec

from .environment import build, default_artifact, free_ports, port_options, stdlib, write_jsonl
from .publishing import filed, publish

CODEC = Codec.FLOAT16
DOCUMENTS = 500
SERVE = "import typer; from tridex.serving.cli.serve import serve; typer.run(serve)"
"""`tridex serve`, also where Tridex is on Python's path and not installed."""
WITHOUT, WITH = "without the kernel cache", "with it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each kind")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    artifact = default_artifact(arguments.repository)
    corpus = stdlib(arguments.data)
    seconds: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    with TemporaryDirectory() as folder:
        store, cache = Path(folder) / "store", Path(folder) / "kernel-cache"
        source = write_jsonl(Path(folder) / "corpus.jsonl", corpus.documents[:DOCUMENTS])
        build(source, store, "c", CODEC, artifact, create_encoder(artifact, threads=os.cpu_count() or 1))
        command = ["--store", store, "--repository", arguments.repository, "--device", device, "--json"]
        for _ in range(arguments.rounds):
            shutil.rmtree(cache, ignore_errors=True)
            for kind in (WITHOUT, WITH):
                seconds[kind].append(until_ready([*map(str, command), "--kernel-cache", str(cache)]))
    text = table(seconds)
    Console().print(Markdown(text))
    results: dict[str, object] = {"device": device, "codec": CODEC.value, "documents": DOCUMENTS, "seconds": seconds}
    publish(filed("start", device), results, text, section="Start")


def until_ready(command: list[str]) -> float:
    """Seconds until the server says that it is ready; it is stopped then."""
    began = time.perf_counter()
    serve = [sys.executable, "-c", SERVE, *command, *port_options(*free_ports(3))]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        said = server.stdout.readline()
        seconds = time.perf_counter() - began
        if not said:
            raise SystemExit("the server did not start")
        json.loads(said)
        return seconds
    finally:
        server.terminate()
        server.wait()


def table(seconds: dict[str, list[float]]) -> str:
    """A row for each kind of start, in Markdown."""
    lines = ["| ready | median | each start |", "| --- | --- | --- |"]
    lines += [
        f"| {kind} | {median(times):.1f} s | {', '.join(f'{one:.1f} s' for one in times)} |"
        for kind, times in seconds.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
