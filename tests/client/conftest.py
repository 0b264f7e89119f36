"""A real gRPC server in this process that records requests and answers as a test says: the wire's other end."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, np_to_triton_dtype, serialize_byte_tensor, triton_to_np_dtype

from tridex.client import AsyncClient, Client


class Request:
    """A ModelInferRequest as the server reads it."""

    def __init__(self, wire: service_pb2.ModelInferRequest, headers: Mapping[str, str]) -> None:
        self.model = wire.model_name
        self.headers = headers
        self.outputs = [output.name for output in wire.outputs]
        self.parameters = {name: getattr(p, p.WhichOneof("parameter_choice")) for name, p in wire.parameters.items()}
        self.timeout_us = self.parameters.pop("timeout")
        self.inputs: dict[str, np.ndarray] = {}
        for spec, raw in zip(wire.inputs, wire.raw_input_contents, strict=True):
            if spec.datatype == "BYTES":
                flat = deserialize_bytes_tensor(raw)
            else:
                flat = np.frombuffer(raw, triton_to_np_dtype(spec.datatype))
            self.inputs[spec.name] = flat.reshape(tuple(spec.shape))


class Refused(Exception):  # noqa: N818
    """Raised instead of an answer: a status and what it says."""


Answer = Callable[[Request], Mapping[str, np.ndarray | list[list[str]]]]


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """`answer` gives the tensors of each answer; `failures` are statuses to answer with before that, one a call."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.failures: list[tuple[grpc.StatusCode, str]] = []
        self.answer: Answer = lambda _: {}
        self.statistics = service_pb2.ModelStatisticsResponse()
        self.ready = True
        self.go_on = threading.Event()
        """Set at the end of a test: an answer may wait for it."""
        self.address = ""

    def silent(self, _request: Request) -> Mapping[str, np.ndarray]:
        """An answer that does not come while the test lasts."""
        self.go_on.wait()
        return {}

    def ModelInfer(self, wire, context):  # noqa: N802 - gRPC's name
        request = Request(wire, dict(context.invocation_metadata()))
        self.requests.append(request)
        if self.failures:
            context.abort(*self.failures.pop(0))
        response = service_pb2.ModelInferResponse(model_name=wire.model_name)
        try:
            tensors = {**_defaults(request), **self.answer(request)}
        except Refused as refused:
            context.abort(*refused.args)
        for name, value in tensors.items():
            array = value if isinstance(value, np.ndarray) else _strings(value)
            strings = array.dtype == np.object_
            response.outputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
            raw = serialize_byte_tensor(array) if strings else array
            response.raw_output_contents.append((raw.item() if raw.size else b"") if strings else raw.tobytes())
        return response

    def ServerReady(self, _request, context):  # noqa: N802
        if self.failures:
            context.abort(*self.failures.pop(0))
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def ServerMetadata(self, _request, _context):  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0", extensions=["statistics", "trace"])

    def ModelStatistics(self, _request, _context):  # noqa: N802
        return self.statistics


@pytest.fixture
def refused() -> type[Refused]:
    """What an answer raises to refuse the request."""
    return Refused


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    fake = FakeTriton()
    size = ("grpc.max_receive_message_length", -1)
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[size])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    fake.go_on.set()
    server.stop(None).wait()


class Awaited:
    """A Client or an AsyncClient behind one face: every method is awaited."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._client, name)

        async def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            return await result if inspect.isawaitable(result) else result

        return call


@pytest.fixture(params=[Client, AsyncClient])
def make_client(request: pytest.FixtureRequest) -> Callable[..., Awaited]:
    """Every test that uses it runs against both clients."""
    return lambda *args, **options: Awaited(request.param(*args, **options))


@pytest.fixture
async def client(make_client: Callable[..., Awaited], triton: FakeTriton) -> AsyncIterator[Awaited]:
    made = make_client(triton.address, timeout_s=10)
    yield made
    await made.close()


def _defaults(request: Request) -> Mapping[str, np.ndarray]:
    """What a write has counted, for answers that do not say."""
    if request.model != "ingest":
        return {}
    zeros = np.zeros((max(len(request.inputs["ID"]), 1), 1), np.int64)
    return dict.fromkeys(("ADDED", "REPLACED", "DELETED"), zeros)


def _strings(rows: list[list[str]]) -> np.ndarray:
    return np.array([[value.encode() for value in row] for row in rows], dtype=np.object_)
