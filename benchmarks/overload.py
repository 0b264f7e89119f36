"""Ten times more searches than the server can do: how soon the accepted ones are answered and the others refused.

python -m benchmarks.overload

One client alone, then as many as keep the server busy (its capacity), then ten times the capacity at a steady rate,
whether there are answers or not, then at once the clients of before: is their throughput back? With the timeout of a
patient client, and with one of three times what 99 % of lone searches take at most. Each search is of several queries:
of single ones, 2,000 a second took the generator more than one of two cores, and what was late was the generator. The
overload comes from a process of its own, so that what it has not dealt with yet delays nobody else; all share the
machine with the server. Beside the overload it sends some requests that are refused whatever the load, to a model that
no client may ask: how late these are is the generator and the front end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import grpc.aio
import numpy as np
from rich.console import Console
from rich.markdown import Markdown
from tritonclient.grpc import service_pb2 as pb

from tridex.protocol import models, parameters
from tridex.protocol.error_tags import ErrorTag, untagged
from tridex.protocol.tensors import DType

from .environment import CODECS, Corpus, served, stdlib
from .publishing import publish

TIMES = 10
"""The load, in capacities."""
PATIENT_S = 1.0
FACTOR = 3
"""The other timeout, in 99th percentiles of a lone search."""
QUERIES = 4
"""Of a search."""
CLIENTS = 64
CONNECTIONS = 8
TOP_K = 10
WARM_UP_S = 3.0
ALONE_S = 8.0
CAPACITY_S = 8
ONSET_S = 1.0
"""After which it is known that there is an overload."""
AFTER_S = 2
TICK_S = 0.005
CONTROL_RATE = 20
"""Requests a second that are refused whatever the load."""
SOON_MS = 50.0

OK, OVERLOADED, TIMED_OUT = "OK", ErrorTag.OVERLOADED.value, ErrorTag.DEADLINE_EXCEEDED.value
FORBIDDEN = "NOT_FOUND"

console = Console()


class End(NamedTuple):
    """How a request ended."""

    status: str
    sent_at: float
    ended_at: float


@dataclass
class Ends:
    """How requests ended."""

    all: list[End] = field(default_factory=list)

    @property
    def by_status(self) -> Counter[str]:
        return Counter(end.status for end in self.all)

    @property
    def answered_at(self) -> list[float]:
        return [end.ended_at for end in self.all if end.status == OK]

    def ms(self, status: str, since: float = 0.0) -> list[float]:
        """How long those with a status took that were sent after a time."""
        return [
            1000 * (end.ended_at - end.sent_at) for end in self.all if end.status == status and end.sent_at >= since
        ]


class Generator:
    """Sends messages with a timeout, one after another, over several connections."""

    def __init__(self, address: str, messages: Sequence[bytes], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._messages = itertools.cycle(messages)
        self._channels = [
            grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(CONNECTIONS)
        ]
        path = "/inference.GRPCInferenceService/ModelInfer"
        self._calls: Iterator[Any] = itertools.cycle([channel.unary_unary(path) for channel in self._channels])

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def ask(self, ends: Ends) -> None:
        """One request."""
        status = OK
        began = time.monotonic()
        try:
            await next(self._calls)(next(self._messages), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            refusal = untagged(error.details() or "")
            status = refusal[0].value if refusal else error.code().name
        ends.all.append(End(status, began, time.monotonic()))

    async def closed(self, clients: int, seconds: float) -> Ends:
        """Clients that ask again as soon as they are answered."""
        ends, until = Ends(), time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < until:
                await self.ask(ends)

        await asyncio.gather(*(client() for _ in range(clients)))
        return ends

    async def open(self, rate: float, seconds: float) -> Ends:
        """So many requests a second. Returns when the last is sent; the answers of some are still to come."""
        ends, began = Ends(), time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        sent = 0
        while (elapsed_s := time.monotonic() - began) < seconds:
            for _ in range(sent, int(elapsed_s * rate)):
                task = asyncio.create_task(self.ask(ends))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
            await asyncio.sleep(TICK_S)
        return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--seconds", type=float, default=30.0, help="of each overload")
    arguments = parser.parse_args()
    corpus = stdlib(arguments.data)
    with served(corpus, arguments.repository, arguments.data) as (server, _):
        alone = asyncio.run(lone(server.address, corpus))
        p99_ms = alone["p99_ms"]
        timeouts = (PATIENT_S, FACTOR * p99_ms / 1000)
        runs = [asyncio.run(overload(server.address, corpus, timeout_s, arguments.seconds)) for timeout_s in timeouts]
    table = markdown(alone, runs)
    console.print(Markdown(table))
    publish("overload", {"alone": alone, "runs": runs}, table, section="Overload")


async def lone(address: str, corpus: Corpus) -> dict[str, float]:
    """Milliseconds of one client's searches."""
    generator = searching(address, corpus, 10 * PATIENT_S)
    await generator.closed(1, WARM_UP_S)
    ends = await generator.closed(1, ALONE_S)
    await generator.close()
    return {f"p{percent}_ms": float(np.percentile(ends.ms(OK), percent)) for percent in (50, 99)}


async def overload(address: str, corpus: Corpus, timeout_s: float, seconds: float) -> dict[str, Any]:
    """Capacity, overload, and what there is right after it."""
    busy = searching(address, corpus, 10 * PATIENT_S)
    await busy.closed(CLIENTS, WARM_UP_S)
    began = time.monotonic()
    seconds_idle = each_second((await busy.closed(CLIENTS, CAPACITY_S)).answered_at, began, CAPACITY_S)
    capacity = fmean(seconds_idle[1:])
    here, there = multiprocessing.Pipe()
    others = multiprocessing.get_context("spawn").Process(
        target=_overload, args=(there, address, corpus, timeout_s, TIMES * capacity, seconds)
    )
    others.start()
    began, over = await asyncio.to_thread(here.recv)
    after = await busy.closed(CLIENTS, AFTER_S + 1)
    ends, control = await asyncio.to_thread(here.recv)
    others.join()
    await busy.close()
    accepted = sum(at < over for at in ends.answered_at)
    return {
        "timeout_s": timeout_s,
        "capacity_per_s": capacity,
        "sent_per_s": len(ends.all) / seconds,
        "accepted_per_s": accepted / (over - began),
        "accepted_ms": {
            **{f"p{percent}": _percentile(ends.ms(OK), percent) for percent in (50, 99)},
            "p99_later": _percentile(ends.ms(OK, since=began + ONSET_S), 99),
        },
        "refused_ms": {
            **{f"p{percent}": _percentile(ends.ms(OVERLOADED), percent) for percent in (50, 99, 100)},
            "p100_later": _percentile(ends.ms(OVERLOADED, since=began + ONSET_S), 100),
            "p100_control": _percentile(control.ms(FORBIDDEN), 100),
        },
        "refused_late": sum(ms > SOON_MS for ms in ends.ms(OVERLOADED)),
        "ends": dict(ends.by_status),
        "seconds_idle": seconds_idle[:AFTER_S],
        "seconds_after": each_second([*ends.answered_at, *after.answered_at], over, AFTER_S),
    }


def _overload(there: Connection, address: str, corpus: Corpus, timeout_s: float, rate: float, seconds: float) -> None:
    """In a process of its own. Says when the overload began and ended, by the monotonic clock, and then how it did."""

    async def run() -> tuple[Ends, Ends]:
        hasty = searching(address, corpus, timeout_s)
        other = Generator(address, [_forbidden()], timeout_s)
        await hasty.closed(CONNECTIONS, 0.5)  # connects
        await other.closed(CONNECTIONS, 0.1)
        began = time.monotonic()
        ends = await asyncio.gather(hasty.open(rate, seconds), other.open(CONTROL_RATE, seconds))
        there.send((began, time.monotonic()))
        await asyncio.sleep(timeout_s + AFTER_S)
        await hasty.close()
        await other.close()
        return ends

    there.send(asyncio.run(run()))


def each_second(answered_at: Sequence[float], began: float, seconds: int) -> list[int]:
    """How many answers came in each second since `began`."""
    return [sum(began + i <= at < began + i + 1 for at in answered_at) for i in range(seconds)]


def searching(address: str, corpus: Corpus, timeout_s: float) -> Generator:
    """Sends searches."""
    collection, texts = corpus.collection(CODECS[0]), corpus.questions
    some = [texts[i : i + QUERIES] for i in range(0, len(texts), QUERIES)]
    return Generator(address, [_message(collection, queries, timeout_s) for queries in some], timeout_s)


def _forbidden() -> bytes:
    """A request that the guard refuses."""
    return bytes(pb.ModelInferRequest(model_name=models.ENCODER.name).SerializeToString())


def _message(collection: str, queries: Sequence[str], timeout_s: float) -> bytes:
    """A search, as the client sends it."""
    raw = [text.encode() for text in queries]
    request = pb.ModelInferRequest(
        model_name=models.SEARCH.name,
        inputs=[{"name": models.QUERY.name, "datatype": DType.STRING.value, "shape": [len(raw), 1]}],
        outputs=[{"name": models.IDS.name}, {"name": models.SCORES.name}],
        raw_input_contents=[b"".join(len(text).to_bytes(4, "little") + text for text in raw)],
    )
    request.parameters[parameters.COLLECTION].string_param = collection
    request.parameters[parameters.TOP_K].int64_param = TOP_K
    request.parameters["timeout"].int64_param = round(1e6 * timeout_s)
    return bytes(request.SerializeToString())


def markdown(alone: Mapping[str, float], runs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each timeout."""
    head = ["timeout", "capacity/s", "sent/s", "answered/s", "p50 ms", "p99 ms", "of those sent after 1 s", "refused"]
    head += ["in ms: p50", "p99", "most", "of those sent after 1 s", "of the control", "after 50 ms"]
    head += ["too late", "seconds after", "on an idle server"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for run in runs:
        ends, total = run["ends"], sum(run["ends"].values())
        refused, late = ends.get(OVERLOADED, 0) / total, ends.get(TIMED_OUT, 0) / total
        cells = [f"{run['timeout_s']:.2f} s", *(f"{run[name]:.0f}" for name in ("capacity_per_s", "sent_per_s"))]
        cells += [f"{run['accepted_per_s']:.0f} ({run['accepted_per_s'] / run['capacity_per_s']:.0%})"]
        cells += [_figure(run["accepted_ms"][name]) for name in ("p50", "p99", "p99_later")] + [f"{refused:.1%}"]
        cells += [_figure(run["refused_ms"][name]) for name in ("p50", "p99", "p100", "p100_later", "p100_control")]
        cells += [f"{run['refused_late']}", f"{late:.2%}"]
        for seconds in (run["seconds_after"], run["seconds_idle"]):
            cells += [", ".join(f"{count} ({count / run['capacity_per_s']:.0%})" for count in seconds)]
        lines.append("| " + " | ".join(cells) + " |")
    lone = f"One client alone: p50 {alone['p50_ms']:.1f} ms, p99 {alone['p99_ms']:.1f} ms."
    return "\n".join(lines) + f"\n\n{lone}"


def _percentile(ms: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(ms, percent)) if ms else None


def _figure(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.1f}"


if __name__ == "__main__":
    main()
