"""A long mixed load: whether memory, file descriptors and disk stay constant after the first minutes.

python -m benchmarks.soak --minutes 10

Searches in every mode, filters, replacing upserts, deletes, encodes, reranks, scrolls and occasional compactions, on a
server of its own. Exit status 1 where a process grew, shared memory or the open files did, the disk use is not bounded,
or a request failed. With --publish the figures join the tables of the documentation, as the other benchmarks' do, and a
plot of them its pictures.
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import psutil
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from examples import stdlib_corpus
from tridex.client import Client, Document, Overloaded, TridexError
from tridex.evaluation.plots import STYLE as PLOT_STYLE
from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings

from .environment import free_ports, questions
from .processes import processes, resident_bytes, shared_bytes
from .publishing import publish

COLLECTION = "soak"
PLOT = Path(__file__).parent.parent / "docs" / "images" / "soak.svg"
DOCUMENTS = 600
"""Distinct ids: sooner or later every upsert replaces."""
UPSERTS_PER_SECOND = 6
SEARCHERS = 2
_LENGTH = 300
"""Characters of a text: some 70 tokens, so that six upserts a second leave room for others on two cores."""
SAMPLE_S = 3.0
WARM_UP_S = 120.0
GROWTH = 0.05
"""Largest share by which a process's memory may grow after the warm-up."""
DESCRIPTORS = 32
"""File descriptors that a process may have more at the end: clients come and go, and so do files of text indexes."""
DISK_GROWTH, DISK_BYTES = 1.25, 32 * 2**20
"""The largest disk use at the end may be so many times the one right after the warm-up, and so many bytes more."""

MB = 2**20
console = Console()
Work = Callable[[Client, int], object]
"""One step of a client, by its number."""


@dataclass(frozen=True)
class Sample:
    """What the server uses at one moment, in bytes."""

    second: float
    memory: dict[str, int]
    shared_memory: int
    disk: int
    descriptors: dict[str, int]
    """Open file descriptors of each process, not in bytes."""


class Load:
    """Concurrent clients that run until they are stopped."""

    def __init__(self, address: str, rows: Sequence[dict[str, object]]) -> None:
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._address = address
        self._texts = [str(row["text"])[:_LENGTH] for row in rows]
        self._questions = questions(list(rows), 200)
        self._stop = threading.Event()
        steps: list[tuple[str, Work, float]] = [("search", self._search, 0.0)] * SEARCHERS
        steps += [
            ("upsert", self._upsert, 1 / UPSERTS_PER_SECOND),
            ("delete", self._delete, 1.0),
            ("other request", self._other, 0.2),
            ("compaction", self._compact, 45.0),
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(name, step, every_s, number))
            for number, (name, step, every_s) in enumerate(steps)
        ]

    def start(self) -> None:
        """Creates the collection and starts the clients."""
        with Client(self._address, timeout_s=60) as client:
            client.create_collection(COLLECTION, fields={"half": "bool", "number": "int"})
            client.upsert(COLLECTION, map(self._document, range(DOCUMENTS)), batch_size=32)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops every client."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, step: Work, every_s: float, number: int) -> None:
        with Client(self._address, timeout_s=60) as client:
            began = time.monotonic()
            for turn in itertools.count():
                if self._stop.wait(max(0.0, began + (turn + 1) * every_s - time.monotonic())):
                    return
                try:
                    step(client, turn * SEARCHERS + number)
                    self.done[name] += 1
                except Overloaded:
                    self.done["overloaded"] += 1
                except TridexError as error:
                    self.failures.append(f"{name}: {error!r}")

    def _document(self, number: int) -> Document:
        key = number % DOCUMENTS
        text = self._texts[(7 * number) % len(self._texts)]
        return Document(f"{key:04}", text, {"half": key % 2 == 0, "number": key})

    def _search(self, client: Client, turn: int) -> object:
        options: list[dict[str, object]] = [
            {},
            {"mode": "bm25"},
            {"mode": "hybrid"},
            {"mode": "rerank"},
            {"exact": False},
            {"filters": {"field": "half", "operator": "==", "value": True}},
            {"filters": {"field": "number", "operator": "<", "value": turn % DOCUMENTS}},
            {"top_k": 100, "with_text": False},
        ]
        return client.search(COLLECTION, self._questions[turn % 200], **options[turn % len(options)])  # type: ignore[arg-type]

    def _upsert(self, client: Client, turn: int) -> object:
        first = random.Random(turn).randrange(10**6)
        return client.upsert(COLLECTION, [self._document(first), self._document(first + 1)])

    def _delete(self, client: Client, turn: int) -> object:
        return client.delete(COLLECTION, [f"{random.Random(turn).randrange(DOCUMENTS):04}"])

    def _other(self, client: Client, turn: int) -> object:
        few = self._texts[turn % 50 : turn % 50 + 4]
        question = self._questions[turn % 200]
        steps: list[Callable[[], object]] = [
            lambda: client.encode_query([question] * 4),
            lambda: client.encode_document(few),
            lambda: client.rerank(question, few),
            lambda: client.scroll(COLLECTION, after=f"{turn % DOCUMENTS:04}"),
            lambda: client.get(COLLECTION, [f"{turn % DOCUMENTS:04}"]),
            lambda: client.count(COLLECTION),
            lambda: client.search(COLLECTION, client.encode_query(question)),
            lambda: client.describe_collection(COLLECTION),
        ]
        return steps[turn % len(steps)]()

    def _compact(self, client: Client, _turn: int) -> object:
        return client.compact(COLLECTION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--publish", action="store_true", help="store the figures, as the other benchmarks do")
    arguments = parser.parse_args()
    if arguments.minutes < 1:
        parser.error(f"--minutes is {arguments.minutes:g}; expected at least 1")
    arguments.data.mkdir(parents=True, exist_ok=True)
    rows = stdlib_corpus.load(arguments.data / "stdlib.jsonl")
    seconds = 60 * arguments.minutes
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        store = Path(folder) / "store"
        grpc_port, http_port, metrics_port = free_ports(3)
        settings = ServerSettings(
            repository=arguments.repository,
            store=store,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
        )
        with TritonServer(settings) as server:
            load = Load(server.address, rows)
            with console.status("the first documents"):
                load.start()
            try:
                samples = list(watched(sampled(server.pid, store, seconds), seconds, load))
            except psutil.NoSuchProcess as error:
                sys.exit(f"a process of the server ended: {error}; the log: {server.log}")
            finally:
                load.stop()
    warm_s = min(WARM_UP_S, seconds / 3)
    markdown = table(samples, warm_s, load)
    console.print(Markdown(markdown))
    if arguments.publish:
        results = {"requests": dict(load.done), "warm_up_s": warm_s, "samples": [asdict(sample) for sample in samples]}
        publish("soak", results, markdown, section="Soak")
        PLOT.write_text(plot(samples))
    problems = [*grown(samples, warm_s), *load.failures[:10]]
    for line in problems:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    sys.exit(1 if problems else 0)


def sampled(pid: int, store: Path, seconds: float) -> Iterator[Sample]:
    """What the server uses, every few seconds, for so many seconds."""
    running = processes(pid)
    began = time.monotonic()
    for turn in itertools.count(1):
        time.sleep(max(0.0, began + turn * SAMPLE_S - time.monotonic()))
        second = time.monotonic() - began
        descriptors = {name: process.num_fds() for name, process in running.items()}
        yield Sample(second, resident_bytes(running), shared_bytes(pid), disk_bytes(store), descriptors)
        if second + SAMPLE_S > seconds:
            return


def disk_bytes(folder: Path) -> int:
    """Disk use of the files in a folder, without those that vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def watched(samples: Iterator[Sample], seconds: float, load: Load) -> Iterator[Sample]:
    """Passes the samples on and shows progress."""
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), TextColumn("{task.fields[now]}")) as progress:
        task = progress.add_task("soak", total=seconds, now="")
        for sample in samples:
            memory = sum(sample.memory.values())
            now = f"{load.done.total():,} requests, {memory // MB} MB of memory, {sample.disk // MB} MB of disk"
            progress.update(task, completed=sample.second, now=now)
            yield sample


def ends(samples: Sequence[Sample], warm_s: float) -> tuple[list[Sample], list[Sample]]:
    """The samples right after the warm-up and the last ones: half a minute each, less in a short run."""
    last_s = samples[-1].second
    span_s = min(30.0, (last_s - warm_s) / 3)
    first = [sample for sample in samples if warm_s - span_s / 2 <= sample.second <= warm_s + span_s / 2]
    return first, [sample for sample in samples if sample.second > last_s - span_s]


def memory_at_ends(samples: Sequence[Sample], warm_s: float) -> dict[str, tuple[float, float]]:
    """The mean memory of each process, and the shared memory, after the warm-up and at the end."""
    first, last = ends(samples, warm_s)
    memory = {
        name: (mean(sample.memory[name] for sample in first), mean(sample.memory[name] for sample in last))
        for name in samples[0].memory
    }
    shared = mean(sample.shared_memory for sample in first), mean(sample.shared_memory for sample in last)
    return {**memory, "shared memory": shared}


def descriptors_at_ends(samples: Sequence[Sample], warm_s: float) -> dict[str, tuple[int, int]]:
    """The most file descriptors of each process after the warm-up and at the end."""
    first, last = ends(samples, warm_s)
    return {
        name: (max(sample.descriptors[name] for sample in first), max(sample.descriptors[name] for sample in last))
        for name in samples[0].descriptors
    }


def disk_at_ends(samples: Sequence[Sample], warm_s: float) -> tuple[int, int]:
    """The largest disk use in the first third of what follows the warm-up, and in the last third."""
    disk = [sample.disk for sample in samples if sample.second >= warm_s]
    third = max(1, len(disk) // 3)
    return max(disk[:third]), max(disk[-third:])


def grown(samples: Sequence[Sample], warm_s: float) -> list[str]:
    """What has grown more than allowed, one line each."""
    found = [
        f"{name} grew from {before / MB:.0f} to {after / MB:.0f} MB; expected at most {GROWTH:.0%}"
        for name, (before, after) in memory_at_ends(samples, warm_s).items()
        if after > (1 + GROWTH) * before
    ]
    found += [
        f"{name} had {before} open files, and has {after}; expected at most {DESCRIPTORS} more"
        for name, (before, after) in descriptors_at_ends(samples, warm_s).items()
        if after > before + DESCRIPTORS
    ]
    before, after = disk_at_ends(samples, warm_s)
    if after > DISK_GROWTH * before + DISK_BYTES:
        found.append(f"the store grew from {before / MB:.0f} to {after / MB:.0f} MB; expected bounded use")
    return found


def table(samples: Sequence[Sample], warm_s: float, load: Load) -> str:
    """Memory of each process, shared memory and disk, as a Markdown table."""
    lines = [
        f"| MB of | after {warm_s / 60:.1f} min | after {samples[-1].second / 60:.1f} min | growth | at most |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (before, after) in memory_at_ends(samples, warm_s).items():
        largest = max(sample.memory.get(name, sample.shared_memory) for sample in samples)
        lines.append(_row(name, before, after, largest))
    lines.append(_row("the store", *disk_at_ends(samples, warm_s), max(sample.disk for sample in samples)))
    files = ", ".join(f"{name} {b} and {a}" for name, (b, a) in descriptors_at_ends(samples, warm_s).items())
    requests = ", ".join(f"{count:,} x {name}" for name, count in sorted(load.done.items()))
    return "\n".join([*lines, "", f"Open files: {files}.", "", f"Requests: {requests}; {len(load.failures)} failed."])


def plot(samples: Sequence[Sample]) -> str:
    """Memory, files and disk over time, as SVG."""
    minutes = [sample.second / 60 for sample in samples]
    names = list(samples[0].memory)
    panels: dict[str, dict[str, list[float]]] = {
        "memory, MB": {name: [sample.memory[name] / MB for sample in samples] for name in names},
        "shared memory and store, MB": {
            "shared memory": [sample.shared_memory / MB for sample in samples],
            "the store's files": [sample.disk / MB for sample in samples],
        },
        "open files": {name: [sample.descriptors[name] for sample in samples] for name in names},
    }
    with rc_context(PLOT_STYLE):
        figure = Figure(figsize=(7.2, 6.6), layout="constrained")
        for axes, (title, lines) in zip(figure.subplots(len(panels), sharex=True), panels.items(), strict=True):
            for name, values in lines.items():
                axes.plot(minutes, values, label=name, linewidth=1.2)
            axes.set_ylim(bottom=0)
            axes.set_title(title, loc="left", fontsize=9)
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        axes.set_xlabel("minutes")
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _row(name: str, before: float, after: float, largest: float) -> str:
    return f"| {name} | {before / MB:,.0f} | {after / MB:,.0f} | {after / before - 1:+.1%} | {largest / MB:,.0f} |"


if __name__ == "__main__":
    main()
