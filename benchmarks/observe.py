"""Has every query of the dashboards data? A real Prometheus watches a server under a mixed load.

python -m benchmarks.observe --minutes 10 --prometheus prometheus

The load is the soak's, with errors and bursts that overload the server beside it. Prometheus has the configuration and
the alerts of deploy/; its own page is there while the load runs. At the end every query is asked, as Grafana asks it,
and the alerts that fire are named. Exit status 1 where a query has no data, or a request failed that should not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

from examples import stdlib_corpus
from tridex.client import AsyncClient
from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings

from .environment import free_ports
from .soak import COLLECTION, Load

DEPLOY = Path(__file__).parent.parent / "deploy"
CHART = DEPLOY / "helm" / "tridex" / "files"
RATE = "1m"
"""Four times the interval between scrapes, as Grafana takes it."""
VARIABLES = {"$__rate_interval": RATE, "$instance": ".*", "$mode": "maxsim"}
"""What Grafana puts into a query, and what its own variables are at first."""
BURST, BURST_TIMEOUT_S, BURST_EVERY_S = 400, 0.5, 30.0
"""So many searches at once, each with so little time that the guard refuses the later ones."""
READY_S = 60.0

console = Console()


class Query(NamedTuple):
    """A query of a dashboard."""

    dashboard: str
    panel: str
    legend: str
    expression: str


def queries() -> list[Query]:
    """Those of all dashboards."""
    return [
        Query(path.stem, panel["title"], target["legendFormat"], target["expr"])
        for path in sorted((CHART / "dashboards").glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, what: str, **parameters: str) -> Any:
        """What its API answers. Raises OSError where it does not."""
        url = f"{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """What the series of a query are now, as Grafana would have it; those that are not a number left out."""
        filled = expression
        for variable, value in VARIABLES.items():
            filled = filled.replace(variable, value)
        found = (float(series["value"][1]) for series in self.ask("query", query=filled)["result"])
        return [value for value in found if not math.isnan(value)]

    def alerts(self) -> list[str]:
        """Names of the alerts that fire or are about to, with which."""
        return sorted({f"{alert['labels']['alertname']} ({alert['state']})" for alert in self.ask("alerts")["alerts"]})


@contextmanager
def watching(binary: str, metrics_port: int, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with the configuration of deploy/, which scrapes this port; its files are in `folder`."""
    configuration = (DEPLOY / "observability" / "prometheus.yml").read_text()
    (folder / "prometheus.yml").write_text(configuration.replace("tridex:8002", f"127.0.0.1:{metrics_port}"))
    (folder / "alerts.yml").write_text((CHART / "alerts.yml").read_text())
    (port,) = free_ports(1)
    command = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(command) as process:
        try:
            prometheus = Prometheus(f"http://127.0.0.1:{port}")
            wait_until_ready(prometheus, process)
            yield prometheus
        finally:
            process.terminate()


def wait_until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes]) -> None:
    """Ends the program where it does not become ready."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError):
            prometheus.ask("targets")
            return
        time.sleep(0.2)
    sys.exit(f"Prometheus is not ready after {READY_S:.0f} s")


class Trouble:
    """A client that asks for what is not there, and bursts of searches that the server cannot answer in time."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Trouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        async with AsyncClient(self._address) as client:
            began = time.monotonic()
            for turn in itertools.count():
                await asyncio.gather(
                    client.search("not-there", "which?"),
                    *(client.search(COLLECTION, f"question {i}", timeout_s=BURST_TIMEOUT_S) for i in range(BURST)),
                    return_exceptions=True,
                )
                if await asyncio.to_thread(self._stop.wait, began + (turn + 1) * BURST_EVERY_S - time.monotonic()):
                    return


def table(found: Sequence[tuple[Query, list[float]]]) -> Table:
    """A row for each query: how many series, and their values now."""
    made = Table("panel", "legend", "series", "now", box=None, pad_edge=False)
    for dashboard, rows in itertools.groupby(found, lambda row: row[0].dashboard):
        made.add_row(f"[bold]{dashboard}[/]")
        before = ""
        for query, values in rows:
            now = " to ".join(f"{value:.3g}" for value in sorted({min(values), max(values)})) if values else ""
            panel = query.panel if query.panel != before else ""
            made.add_row(panel, query.legend, f"{len(values)}", now or "[red]no data[/]")
            before = query.panel
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--prometheus", default="prometheus", help="the program")
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    arguments = parser.parse_args()
    if arguments.minutes < 2:
        parser.error(f"--minutes is {arguments.minutes:g}; expected at least 2, for rates over {RATE}")
    arguments.data.mkdir(parents=True, exist_ok=True)
    rows = stdlib_corpus.load(arguments.data / "stdlib.jsonl")
    grpc_port, http_port, metrics_port = free_ports(3)
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        settings = ServerSettings(
            repository=arguments.repository,
            store=Path(folder, "store"),
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            recall_sample_rate=1.0,
        )
        with TritonServer(settings) as server, watching(arguments.prometheus, metrics_port, Path(folder)) as prometheus:
            console.print(f"Prometheus answers at {prometheus.address}", highlight=False)
            load = Load(server.address, rows)
            load.start()
            try:
                with Trouble(server.address):
                    for _ in track(range(round(60 * arguments.minutes)), f"{arguments.minutes:g} minutes of load"):
                        time.sleep(1)
                    found = [(query, prometheus.values(query.expression)) for query in queries()]
                    alerts = prometheus.alerts()
            finally:
                load.stop()
    console.print(table(found))
    empty = sum(not values for _, values in found)
    console.print(f"{len(found) - empty} of {len(found)} queries have data. Alerts: {', '.join(alerts) or 'none'}.")
    console.print(f"Requests: {', '.join(f'{count:,} x {name}' for name, count in sorted(load.done.items()))}.")
    for failure in load.failures[:10]:
        console.print(failure, style="red", highlight=False)
    sys.exit(1 if empty or load.failures else 0)


if __name__ == "__main__":
    main()
