"""Errors by status code, retries, timeouts, on the wire."""

from __future__ import annotations

import asyncio
import json
import threading

import grpc
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tridex.client import (
    AlreadyExists,
    AsyncClient,
    ClientError,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    ReadOnly,
    ResourceExhausted,
    ServerError,
    Timeout,
    TridexError,
    Unauthenticated,
    Unavailable,
    retries,
    transport,
)
from tridex.client.errors import from_triton
from tridex.protocol.error_tags import ErrorTag, tagged

COUNT = {"ROWS": [['{"count": 3}']]}


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument, "INVALID_ARGUMENT"),
        (grpc.StatusCode.NOT_FOUND, NotFound, "NOT_FOUND"),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExists, "ALREADY_EXISTS"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded, "OVERLOADED"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Timeout, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.INTERNAL, ServerError, "INTERNAL"),
        (grpc.StatusCode.UNKNOWN, ServerError, "INTERNAL"),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated, "UNAUTHENTICATED"),
    ],
)
async def test_the_status_code_decides_the_class(client, triton, status, expected, code):
    # The message names another status: it must not matter.
    triton.failures = [(status, "DEADLINE_EXCEEDED, says a message about größer")]
    with pytest.raises(TridexError, match="says a message about größer") as caught:
        await client.count("docs")
    assert type(caught.value) is expected and caught.value.code == code
    assert isinstance(caught.value.__cause__, InferenceServerException)
    assert len(triton.requests) == 1


def test_every_class_of_error_has_a_code_of_its_own():
    classes = ClientError.__subclasses__()
    assert len({kind.code for kind in classes}) == len(classes) > 10
    for tag in ErrorTag:
        answered = InferenceServerException(tagged(tag, "no"), status="StatusCode.INTERNAL")
        assert from_triton(answered, timeout_s=1).code == tag.value


@pytest.mark.parametrize("ensemble", ["", "in ensemble 'search', "])
async def test_exhausted_memory_is_an_error_of_its_own_and_not_retried(client, triton, ensemble):
    triton.failures = [(grpc.StatusCode.INTERNAL, f"{ensemble}RESOURCE_EXHAUSTED: collection 'c' needs 2.00 GB")]
    with pytest.raises(ResourceExhausted, match=r"^collection 'c' needs 2\.00 GB$") as caught:
        await client.count("docs")
    assert isinstance(caught.value.__cause__, InferenceServerException)
    assert len(triton.requests) == 1


async def test_words_of_a_message_exhaust_nothing(client, triton):
    triton.failures = [(grpc.StatusCode.INTERNAL, "document 'RESOURCE_EXHAUSTED: ' failed")]
    with pytest.raises(ServerError, match="document"):
        await client.count("docs")


async def test_an_answer_without_a_tensor_is_a_server_error(client):
    with pytest.raises(ServerError, match="catalog answered without the tensor ROWS"):
        await client.count("docs")


@pytest.mark.parametrize("row", ["{", '{"number": 3}'])
async def test_an_answer_of_another_version_is_a_server_error(client, triton, row):
    triton.answer = lambda _: {"ROWS": [[row]]}
    with pytest.raises(ServerError, match="cannot read the server's answer"):
        await client.count("docs")


async def test_unavailable_is_retried(client, triton):
    triton.answer = lambda _: COUNT
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, "loading")] * 2
    assert await client.count("docs") == 3
    assert len(triton.requests) == 3


async def test_a_large_request_is_retried_too(client, triton):
    triton.answer = lambda request: {"VERSION": np.full((len(request.inputs["ID"]), 1), 1)}
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, "loading")]
    documents = [{"id": str(i), "text": "x" * 200_000} for i in range(16)]
    assert (await client.upsert("docs", documents)).version == 1
    assert len(triton.requests) == 2 and len(triton.requests[1].inputs["TEXT"]) == 16


async def test_retries_give_up_with_the_last_reason(client, triton):
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, f"reason {i}") for i in range(9)]
    with pytest.raises(Unavailable, match=r"^reason 4 \(after 5 attempts in [0-9.]+ s\)$") as caught:
        await client.count("docs")
    assert isinstance(caught.value.__cause__, InferenceServerException)
    assert len(triton.requests) == 5
    # Each attempt is told what is left of the time.
    allowed = [request.timeout_us for request in triton.requests]
    assert allowed == sorted(allowed, reverse=True) and 7_000_000 < allowed[-1] < allowed[0] - 700_000


async def test_retries_end_before_the_timeout_with_the_last_reason(client, triton, monkeypatch):
    monkeypatch.setattr(retries.random, "uniform", lambda shortest, _: 3 * shortest)
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, f"reason {i}") for i in range(99)]
    # Pauses of 0.15, 0.3 and 0.6 s, and one of 1.2 s that there is no time for.
    with pytest.raises(Unavailable, match=r"^reason 3 \(after 4 attempts in [12]\.\d s\)$"):
        await client.count("docs", timeout_s=2.2)
    assert len(triton.requests) == 4


async def test_a_timeout_names_the_reason_of_the_attempt_before(client, triton):
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, "the collection is not loaded yet")]
    triton.answer = triton.silent
    with pytest.raises(Timeout, match=r"timeout_s=0\.8\), after UNAVAILABLE: the collection is not loaded yet$"):
        await client.count("docs", timeout_s=0.8)
    assert len(triton.requests) == 2


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (grpc.StatusCode.INTERNAL, "in ensemble 'search', OVERLOADED: 200 searches wait", Overloaded),
        (grpc.StatusCode.INTERNAL, "READ_ONLY: process 7 writes to this store", ReadOnly),
        (grpc.StatusCode.INTERNAL, "DEADLINE_EXCEEDED: 2.0 s are over", Timeout),
        (grpc.StatusCode.INVALID_ARGUMENT, "parameter top_k is 0", InvalidArgument),
        (grpc.StatusCode.UNAUTHENTICATED, "no", Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, "no", PermissionDenied),
        (grpc.StatusCode.UNIMPLEMENTED, "no", ServerError),
        (grpc.StatusCode.INTERNAL, "UNAUTHENTICATED: the API key is not known", Unauthenticated),
        (grpc.StatusCode.INTERNAL, "PERMISSION_DENIED: key 'a' does not have the right 'write'", PermissionDenied),
        (
            grpc.StatusCode.UNAVAILABLE,
            "This protocol is restricted, expecting header 'triton-grpc-protocol-key'",
            PermissionDenied,
        ),
    ],
)
async def test_what_is_never_sent_again(client, triton, status, message, expected):
    triton.failures = [(status, message)]
    with pytest.raises(TridexError) as caught:
        await client.count("docs")
    assert type(caught.value) is expected and len(triton.requests) == 1


@pytest.mark.parametrize(
    ("message", "after_s"),
    [
        ("OVERLOADED: 9 requests are before this one; retry after 0.35 s", 0.35),
        ("in ensemble 'maxsim', OVERLOADED: they take too long; retry after 12 s", 12.0),
        ("OVERLOADED: requests that wait hold 9 bytes of texts", None),
    ],
)
async def test_an_overload_says_when_to_retry(client, triton, message, after_s):
    triton.failures = [(grpc.StatusCode.INTERNAL, message)]
    with pytest.raises(Overloaded) as caught:
        await client.count("docs")
    assert caught.value.retry_after_s == after_s


async def test_an_answer_that_is_too_large_is_no_overload(make_client, triton, monkeypatch):
    monkeypatch.setattr(transport, "CHANNEL_ARGUMENTS", [("grpc.max_receive_message_length", 10_000)])
    triton.answer = lambda _: {"ROWS": [[json.dumps({"id": "1", "text": "x" * 20_000, "metadata": {}})]]}
    client = make_client(triton.address)
    with pytest.raises(InvalidArgument, match=r"expected a smaller top_k or limit, .* or with_text=False$"):
        await client.scroll("docs")
    assert len(triton.requests) == 1
    await client.close()


async def test_readiness_is_not_retried(client, triton):
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, "loading")]
    assert await client.is_ready() is False
    assert triton.failures == []


async def test_the_timeout_of_a_call(client, triton):
    triton.answer = triton.silent
    with pytest.raises(Timeout, match=r"timeout_s=0\.2"):
        await client.count("docs", timeout_s=0.2)
    triton.answer = lambda _: COUNT
    assert await client.count("docs") == 3


async def test_the_timeout_of_a_client(make_client, triton):
    triton.answer = triton.silent
    client = make_client(triton.address, timeout_s=0.2)
    with pytest.raises(Timeout):
        await client.count("docs")
    triton.answer = lambda _: COUNT
    assert await client.count("docs", timeout_s=5) == 3
    # The server is told how long a search may wait for a version.
    assert [request.timeout_us for request in triton.requests][-2:] == pytest.approx([200_000, 5_000_000], abs=50_000)
    await client.close()


async def test_nobody_there(make_client):
    client = make_client("127.0.0.1:1", timeout_s=5)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await client.count("docs")
    await client.close()


async def test_answers_above_the_default_message_size_of_grpc(client, triton):
    triton.answer = lambda _: {
        "EMBEDDINGS": np.ones((1, 20_000, 128), np.float32),
        "EMBEDDING_MASK": np.ones((1, 20_000), np.int64),
    }
    assert (await client.encode_document("long")).shape == (20_000, 128)


async def test_async_requests_overlap(triton):
    all_are_there = threading.Barrier(4)
    triton.answer = lambda _: all_are_there.wait(20) is not None and COUNT
    async with AsyncClient(triton.address) as client:
        assert await asyncio.gather(*(client.count("docs") for _ in range(4))) == [3] * 4


def test_an_async_client_may_be_made_before_its_event_loop(triton):
    triton.answer = lambda _: COUNT
    client = AsyncClient(triton.address)

    async def count():
        async with client:
            return await client.count("docs")

    assert asyncio.run(count()) == 3
