"""Far more searches than the server can do: it does what it can, says no quickly to the rest, and forgets them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

import grpc.aio
import kserve
import pytest
from tritonclient.grpc import service_pb2_grpc as rpc

from tridex.client import AsyncClient, Client, Document, Overloaded, Timeout
from tridex.protocol.error_tags import ErrorTag, untagged
from tridex.serving.gate import GateLane, open_gate
from tridex.serving.run_folder import GATE
from tridex.serving.server import TritonServer

COLLECTION = "overload"
DEADLINE_S = 1.0
SECONDS = 3.0
RATE = 250
"""Requests a second, of several queries each: some ten times what two CPU cores do."""
QUERIES = 8
CONNECTIONS = 8

Ask = Callable[[list[str]], Awaitable[str]]
"""Asks some questions in one request; how it ended."""


@dataclass
class Load:
    """How searches ended, and after how long."""

    ends: Counter[str] = field(default_factory=Counter)
    refused_after_s: list[float] = field(default_factory=list)
    slowest_s: float = 0.0


@pytest.fixture(scope="module")
def collection(server: TritonServer) -> Iterator[str]:
    with Client(server.address, timeout_s=60) as client:
        client.upsert(COLLECTION, [Document(f"d{i}", f"document {i} of the overloaded") for i in range(100)])
        client.search(COLLECTION, "read your writes")
        yield COLLECTION
        client.drop_collection(COLLECTION)


async def open_loop(ask: Ask) -> Load:
    """Asks at a steady rate, whether there are answers or not."""
    load = Load()

    async def one(number: int) -> None:
        began = time.monotonic()
        end = await ask([f"question {number} and {i} about documents" for i in range(QUERIES)])
        took_s = time.monotonic() - began
        load.ends[end] += 1
        load.slowest_s = max(load.slowest_s, took_s)
        if end == "OVERLOADED":
            load.refused_after_s.append(took_s)

    began = time.monotonic()
    tasks: list[asyncio.Task[None]] = []
    while (elapsed_s := time.monotonic() - began) < SECONDS:
        due = range(len(tasks), int(elapsed_s * RATE))
        tasks += [asyncio.create_task(one(number)) for number in due]
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    return load


def requests_of_search(client: Client) -> int:
    """How many have reached the model's process."""
    return sum(model.requests + model.failed for model in client.statistics() if model.model == "search")


def check(load: Load, client: Client) -> None:
    """After the load: what became of it, and that nothing of it is left."""
    assert client.search(COLLECTION, "document 7", top_k=1, timeout_s=10)
    print(f"{dict(load.ends)}, refused after {median(load.refused_after_s):.3f} s, slowest {load.slowest_s:.2f} s")
    assert set(load.ends) <= {"OK", "OVERLOADED", "DEADLINE_EXCEEDED"}, load.ends
    assert load.ends["OK"] > 10 and load.ends["OVERLOADED"] > load.ends["DEADLINE_EXCEEDED"], load.ends
    assert median(load.refused_after_s) < DEADLINE_S / 2
    assert load.slowest_s < DEADLINE_S + 10


def test_requests_beyond_capacity_are_refused_at_once(client: Client, server: TritonServer, collection: str) -> None:
    async def run() -> Load:
        channels = [
            grpc.aio.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(CONNECTIONS)
        ]
        stubs = itertools.cycle([rpc.GRPCInferenceServiceStub(channel) for channel in channels])

        async def ask(questions: list[str]) -> str:
            texts = {"QUERY": [[question] for question in questions]}
            request = kserve.request("search", texts, collection=collection, timeout=int(DEADLINE_S * 1e6))
            try:
                await next(stubs).ModelInfer(request, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                refusal = untagged(error.details() or "")
                return refusal[0].value if refusal else str(error.code().name)
            return "OK"

        load = await open_loop(ask)
        for channel in channels:
            await channel.close()
        return load

    before = requests_of_search(client)
    load = asyncio.run(run())
    check(load, client)
    # The front ends refuse most by themselves: a refusal by the model's process costs the time of others' searches.
    assert requests_of_search(client) - before < load.ends.total() - load.ends["OVERLOADED"] / 2


AskFor = Callable[[AsyncClient, list[str]], Awaitable[object]]
"""Asks for something that takes some texts, in one request."""


async def upsert(client: AsyncClient, texts: list[str]) -> None:
    await client.upsert(COLLECTION, [Document(text, text) for text in texts])


async def search(client: AsyncClient, texts: list[str]) -> None:
    await client.search_batch(COLLECTION, texts)


@pytest.mark.usefixtures("collection")
@pytest.mark.parametrize(
    "ask_for", [search, AsyncClient.encode_query, AsyncClient.encode_document, upsert], ids=lambda call: call.__name__
)
def test_the_client_says_overloaded(client: Client, server: TritonServer, ask_for: AskFor) -> None:
    """At the door of search, of encode and of ingest. One who is told so is told in time: later, it is a Timeout."""
    ends = {Overloaded: ErrorTag.OVERLOADED.value, Timeout: ErrorTag.DEADLINE_EXCEEDED.value}
    retry_after_s: list[float | None] = []
    asked: dict[str, list[str]] = {"OK": [], **{end: [] for end in ends.values()}}

    async def run() -> Load:
        async with AsyncClient(server.address, timeout_s=DEADLINE_S) as other:

            async def ask(questions: list[str]) -> str:
                end = "OK"
                try:
                    await ask_for(other, questions)
                except (Overloaded, Timeout) as error:
                    end = ends[type(error)]
                    if isinstance(error, Overloaded):
                        retry_after_s.append(error.retry_after_s)
                asked[end] += questions
                return end

            load = await open_loop(ask)
        async with AsyncClient(server.address, timeout_s=30) as patient:
            await ask_for(patient, ["a lone one"])
        return load

    check(asyncio.run(run()), client)
    assert all(after_s and 0 < after_s < 10 for after_s in retry_after_s), retry_after_s
    if ask_for is upsert:
        written = {end: sum(document is not None for document in client.get(COLLECTION, asked[end])) for end in asked}
        assert written["OK"] == len(asked["OK"]) and written["OVERLOADED"] == 0


def test_the_guard_never_says_to_retry_at_once(server: TritonServer) -> None:
    """To one whose timeout is a microsecond or two too short."""
    tell = open_gate(server._supervisor.server.run.folder / GATE)(GateLane.ENCODING).tell
    with kserve.channel(server.address) as channel:
        tell(1.000002, 1.0)
        try:
            answer = kserve.infer(channel, kserve.request("encode_query", {"QUERY": [["q"]]}, timeout=1_000_000))
        finally:
            tell(0.0, 1.0)
    assert answer.message.startswith("OVERLOADED: ") and answer.message.endswith("; retry after 0.01 s"), answer
