"""Thousands of hostile requests beside good ones: nothing ends, nobody else is harmed, nothing leaks or grows.

TRIDEX_FUZZ_REQUESTS   how many of them, half over gRPC and half over HTTP (20,000)
TRIDEX_FUZZ_SEED       what they follow from, printed by every run
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import kserve
from control_calls import CLOSED
from fuzz_attacks import Attack
from fuzz_requests import Requests
from fuzz_senders import NO_ANSWER, GrpcSender, HttpSender, Outcome, Sender
from fuzzer import Fuzzer
from good_callers import GoodCallers
from tritonclient.grpc import service_pb2_grpc as rpc

from benchmarks.processes import processes, resident_bytes, shared_bytes
from tridex.client import Client
from tridex.protocol.error_tags import untagged
from tridex.serving.server import TritonServer

REQUESTS = int(os.environ.get("TRIDEX_FUZZ_REQUESTS", "20000"))
SEED = int(os.environ.get("TRIDEX_FUZZ_SEED", "9"))
SENDERS = 4
"""Of each protocol."""
GOOD_PAUSE_S = 0.1
"""Between the requests of a good caller, whose work is most of the server's."""
GROWTH, GROWTH_BYTES = 0.10, 60 * 2**20
"""Memory that a process may have more of at the end than in the first third, whichever is more."""
DIM = 128

NEVER = {call.method for call in CLOSED.values()}
TOO_MUCH = re.compile(r"Traceback|\n\nAt:|\.py\(|/usr|/root|/tmp|site-packages")
"""What no caller is told."""
UNTYPED = ("INTERNAL", "UNKNOWN", "500")
"""What says nothing of an error's kind, unless its message begins with a tag of ours,"""
UNREADABLE = re.compile(
    "Unable to parse request"
    "|failed to parse the request JSON buffer: |Unable to (parse|set) '|parameter key '.*' was not found in the JSON"
)
"""or is Triton server's about a request that it cannot read, for which its gRPC and its HTTP have no other status."""


@dataclass
class Run:
    """What came of the attacks so far."""

    done: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory: list[dict[str, int]] = field(default_factory=list)
    """Of each process, and what they share, every second."""
    warm: int = 0
    """How many samples are of the first third."""


def test_hostile_requests_harm_nobody(server: TritonServer) -> None:
    leaks = [TOO_MUCH, *(re.compile(re.escape(str(path))) for path in (server.store, server.repository, Path.cwd()))]
    run = Run()
    running = processes(server.pid)
    with Client(server.address, timeout_s=60) as client:
        before = {info.name for info in client.collections()}, client.aliases()
        good = GoodCallers(server.address, "canaries", pause_s=GOOD_PAUSE_S)
        fuzzer = Fuzzer(SEED, Requests(good.collection, ("fuzz-0", "fuzz-1", "fuzz-2"), DIM))
        attacks = {
            "grpc": ([GrpcSender(server.address) for _ in range(SENDERS)], fuzzer.attacks(REQUESTS // 2)),
            "http": ([HttpSender(server.host, server.ports["http"])] * SENDERS, fuzzer.attacks(REQUESTS // 2)),
        }
        began = time.monotonic()
        with good, sampling(run, lambda: {**resident_bytes(running), "shared memory": shared_bytes(server.pid)}):
            attack_all(attacks, run, leaks)
        elapsed_s = time.monotonic() - began
        good.ask_all()
        report(run, good, elapsed_s)
        assert {name: process.pid for name, process in processes(server.pid).items()} == {
            name: process.pid for name, process in running.items()
        }
        faults = [*run.faults, *(f"a good request: {failure}" for failure in good.failures)]
        assert not faults, "\n".join(faults[:20])
        assert run.done == REQUESTS // 2 * 2
        assert min(good.answered.values()) > 2 and good.answered.total() > REQUESTS / 100
        assert grown(run) == []
        clean_up(client, *before)


LEAVERS, CALLS = 6, 4000


def test_callers_who_leave_just_when_their_answer_is_there_end_nothing(server: TritonServer) -> None:
    """Triton 2.51 by itself ends within some 3,000 of these."""
    pid = server.pid

    def leave(number: int) -> None:
        rng = random.Random(number)
        request = kserve.request("catalog", {"IDS": [[]]}, operation="aliases")
        with kserve.channel(server.address) as connection:
            stub = rpc.GRPCInferenceServiceStub(connection)
            for _ in range(CALLS // LEAVERS):
                call = stub.ModelInfer.future(request, timeout=20)
                time.sleep(rng.choice((0, 0.001, 0.003, 0.01)))
                call.cancel()
                ends[call.code()] += 1

    ends: Counter[grpc.StatusCode] = Counter()
    threads = [threading.Thread(target=leave, args=(number,)) for number in range(LEAVERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(ends) == {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
    with Client(server.address, timeout_s=60) as client:
        assert client.is_ready() and server.pid == pid


def attack_all(
    attacks: dict[str, tuple[list[Sender], Iterator[Attack]]], run: Run, leaks: list[re.Pattern[str]]
) -> None:
    """Every sender takes its protocol's next attack; big ones go one at a time, so that what they take has a bound."""
    taking, counting, big = threading.Lock(), threading.Lock(), threading.Lock()

    def work(protocol: str, send: Sender, own: Iterator[Attack]) -> None:
        while True:
            with taking:
                attack = next(own, None)
            if attack is None:
                return
            if attack.is_big:
                with big:
                    outcome = send(attack)
            else:
                outcome = send(attack)
            with counting:
                run.done += 1
                run.statuses[outcome.status] += 1
                run.faults += [f"{protocol} {attack}: {words}" for words in faults_of(attack, outcome, leaks)]
                if run.done <= REQUESTS / 3:
                    run.warm = len(run.memory)

    threads = [
        threading.Thread(target=work, args=(protocol, send, own))
        for protocol, (senders, own) in attacks.items()
        for send in senders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def faults_of(attack: Attack, outcome: Outcome, leaks: list[re.Pattern[str]]) -> list[str]:
    """What is wrong with how an attack ended."""
    found = []
    if outcome.status == NO_ANSWER and not attack.may_end_early:
        found.append("no answer")
    if outcome.missing and not attack.may_end_early and outcome.status in ("OK", "ERROR"):
        found.append(f"{outcome.missing} answers are missing")
    if attack.method in NEVER and outcome.status == "OK":
        found.append("it was allowed")
    for message in outcome.messages:
        if any(leak.search(message) for leak in leaks):
            found.append(f"it says too much: {message}")
        if "internal error (" in message:
            found.append(f"nobody expected it: {message}")
        if outcome.status in UNTYPED and not untagged(message) and not UNREADABLE.match(message):
            found.append(f"its kind is not known: {outcome.status} {message}")
    return found


class sampling:  # noqa: N801 - reads as a verb
    """A context manager: samples memory every second."""

    def __init__(self, run: Run, sample: Callable[[], dict[str, int]]) -> None:
        self._run, self._sample = run, sample
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._run.memory.append(self._sample())

    def _work(self) -> None:
        while not self._stop.wait(1.0):
            self._run.memory.append(self._sample())


def grown(run: Run) -> list[str]:
    """What has grown since the first third."""
    first = {name: max(sample[name] for sample in run.memory[: run.warm or 1]) for name in run.memory[0]}
    return [
        f"{name}: {first[name]} to {now} bytes"
        for name, now in run.memory[-1].items()
        if now - first[name] > max(GROWTH * first[name], GROWTH_BYTES)
    ]


def report(run: Run, good: GoodCallers, elapsed_s: float) -> None:
    print(f"seed {SEED}: {run.done} attacks in {elapsed_s:.0f} s, {dict(run.statuses)}")
    print(f"{good.answered.total()} good requests, the slowest {good.slowest_s:.2f} s: {dict(good.answered)}")
    first, last = run.memory[run.warm], run.memory[-1]
    print("MB:", {name: f"{first[name] >> 20} to {last[name] >> 20}" for name in last})


def clean_up(client: Client, collections: set[str], aliases: dict[str, str]) -> None:
    """Drops what the attacks and the good callers left."""
    for alias in client.aliases().keys() - aliases.keys():
        client.drop_alias(alias)
    for info in client.collections():
        if info.name not in collections:
            client.drop_collection(info.name)
