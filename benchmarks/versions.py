"""Throughput of two versions of the server, in turns on one machine.

In a checkout of the other version, `make perf`, which leaves its environment, its exported encoder and its store; then
here, after `make perf`:

    python -m benchmarks.versions --before ../other

perf_analyzer sends the same searches to each, row by row, as `make perf` does.
"""

from __future__ import annotations

import argparse
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from tridex.client.channel import DEFAULT_TIMEOUT_S

from . import perf_analyzer
from .environment import CODECS, free_ports, port_options, stdlib
from .publishing import publish

HERE = Path(__file__).parent.parent
ROWS = [(codec, clients, texts) for codec in CODECS for texts in (False, True) for clients in (1, 4, 16, 64)]
START_S = 180.0

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the other version's checkout")
    parser.add_argument("--data", type=Path, default=Path(".tridex"), help="in either checkout, what `make perf` left")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="per window; a row takes two or three windows")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "now": HERE}
    binary = perf_analyzer.fetch(HERE / arguments.data / "perf_analyzer")
    corpus = stdlib(HERE / arguments.data)
    inputs = [{"QUERY": [text]} for text in corpus.questions]
    rows: list[dict[str, Any]] = [
        {"codec": codec, "concurrency": clients, "with_text": with_text, "before": [], "now": []}
        for codec, clients, with_text in ROWS
    ]
    for turn in range(arguments.turns):
        for version, checkout in checkouts.items():
            with console.status("") as status, served(checkout, checkout / arguments.data / "store") as address:
                for i, row in enumerate(rows):
                    status.update(f"turn {turn + 1} of {arguments.turns}, {version}, row {i + 1} of {len(rows)}")
                    parameters: dict[str, str | int | bool] = {
                        "collection": corpus.collection(row["codec"]),
                        "top_k": 10,
                        "with_text": row["with_text"],
                        "with_metadata": row["with_text"],
                        "timeout": int(1e6 * DEFAULT_TIMEOUT_S),
                    }
                    load = perf_analyzer.run(
                        binary,
                        address,
                        "search",
                        inputs,
                        parameters,
                        row["concurrency"],
                        arguments.seconds,
                        HERE / arguments.data,
                        [perf_analyzer.launcher_header()],
                    )
                    row[version].append({"requests_per_s": load.requests_per_s, "p99_ms": load.p99_ms})
    markdown = table(rows)
    console.print(Markdown(markdown))
    publish("versions", {"before": revision(checkouts["before"]), "now": revision(HERE), "rows": rows}, markdown)


@contextmanager
def served(checkout: Path, store: Path) -> Iterator[str]:
    """The address of the checkout's own server over this store."""
    grpc_port, http_port, _ = ports = free_ports(3)
    launcher = subprocess.Popen(
        [checkout / ".venv" / "bin" / "tridex", "serve", "--store", store, *port_options(*ports)],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = monotonic() + START_S
        while not is_ready(http_port):
            if launcher.poll() is not None or monotonic() > deadline:
                raise SystemExit(f"the server of {checkout} did not start")
            sleep(0.5)
        yield f"127.0.0.1:{grpc_port}"
    finally:
        launcher.terminate()
        launcher.wait()


def is_ready(http_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/v2/health/ready", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def revision(checkout: Path) -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Every turn's figures as Markdown, and the ratio of the means."""
    lines = ["| codec | clients | texts | before/s | now/s | now is | p99 ms before | now |", "| --- " * 8 + "|"]
    for row in rows:
        rates, latencies = (
            {version: [turn[of] for turn in row[version]] for version in ("before", "now")}
            for of in ("requests_per_s", "p99_ms")
        )
        ratio = sum(rates["now"]) / sum(rates["before"])
        cells = [row["codec"], str(row["concurrency"]), "yes" if row["with_text"] else "no"]
        cells += [", ".join(f"{rate:.0f}" for rate in rates[version]) for version in ("before", "now")]
        cells += [f"{ratio:.2f}x"]
        cells += [", ".join(f"{ms:.0f}" for ms in latencies[version]) for version in ("before", "now")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
