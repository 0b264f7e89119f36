"""Who may call what: every call of Triton server's protocols, and every operation of ours, on each port."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import kserve
import psutil
import pytest
from control_calls import (
    CALLS,
    CLOSED,
    CLOSED_WITH_KEYS,
    HEALTH_PATHS,
    METADATA_PATHS,
    SERVICE,
    answered_paths,
    ask,
)
from servers import new_server
from triton_paths import grpc_methods, http_paths
from tritonclient.grpc import service_pb2_grpc as rpc

from tridex.protocol import models
from tridex.protocol.error_tags import ErrorTag, untagged
from tridex.serving.access.callers import OPERATIONS
from tridex.serving.access.key_file import Right, add_key
from tridex.serving.server import TritonServer

COLLECTION = "access"
WRONG = "tridex_wrong"

Infer = Callable[[TritonServer, str, str, str | None], str]
"""Asks a model for an operation with a key; the message of the refusal."""


@dataclass(frozen=True)
class Keyed:
    """A server that asks for keys, over gRPC and over Triton server's own HTTP."""

    server: TritonServer
    every: str
    """A key with every right,"""
    with_right: dict[Right, str]
    """and one with each."""


@pytest.fixture(scope="module")
def keyed(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("keyed")
    file = folder / "keys.toml"
    every = add_key(file, "every", list(Right), ["*"])
    with_right = {right: add_key(file, right.value, [right], ["*"]) for right in Right}
    with new_server(server.repository, folder / "store", http_inference=True, api_key_file=file) as running:
        yield Keyed(running, every, with_right)


@pytest.fixture
def channel(server: TritonServer) -> Iterator[grpc.Channel]:
    with kserve.channel(server.address) as channel:
        yield channel


@pytest.fixture
def keyed_channel(keyed: Keyed) -> Iterator[grpc.Channel]:
    with kserve.channel(keyed.server.address) as channel:
        yield channel


@pytest.mark.parametrize("name", CALLS)
def test_nobody_administers_over_grpc(channel: grpc.Channel, name: str) -> None:
    status, message = CALLS[name].over_grpc(channel)
    if name in CLOSED:
        assert status == "UNAVAILABLE" and "This protocol is restricted" in message
    else:
        assert status == "OK", message


@pytest.mark.parametrize("name", CALLS)
def test_nobody_administers_over_http(server: TritonServer, name: str) -> None:
    status, message = CALLS[name].over_http((server.host, server.ports["http"]))
    if name in CLOSED:
        assert status == 403 and "This API is restricted" in message
    else:
        assert status == 200, message


@pytest.mark.parametrize("name", CALLS)
def test_no_key_administers_over_grpc(keyed: Keyed, keyed_channel: grpc.Channel, name: str) -> None:
    for key in (None, WRONG, keyed.every, *keyed.with_right.values()):
        status, message = CALLS[name].over_grpc(keyed_channel, key)
        if name in CLOSED or name in CLOSED_WITH_KEYS:
            assert status == "UNAVAILABLE" and "This protocol is restricted" in message
        else:
            assert status == "OK", message


@pytest.mark.parametrize("name", CALLS)
def test_no_key_administers_over_http(keyed: Keyed, name: str) -> None:
    for key in (None, WRONG, keyed.every, *keyed.with_right.values()):
        status, message = CALLS[name].over_http((keyed.server.host, keyed.server.ports["http"]), key)
        if name in CLOSED or name in CLOSED_WITH_KEYS:
            assert status == 403 and "This API is restricted" in message
        else:
            assert status == 200, message


@pytest.mark.parametrize("name", CALLS)
def test_the_metrics_port_has_no_call(server: TritonServer, keyed: Keyed, name: str) -> None:
    for running, key in ((server, None), (keyed.server, None), (keyed.server, keyed.every)):
        status, _ = CALLS[name].over_http((running.host, running.ports["metrics"]), key)
        assert status == (501 if CALLS[name].http.startswith("POST") else 404)


def test_this_tritonserver_has_no_calls_beside(server: TritonServer, keyed: Keyed) -> None:
    """By what its executable has, as another version may have more than our list of calls."""
    executable = Path(psutil.Process(server.pid).exe())
    health = {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}
    known = {f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods} | health
    assert health < grpc_methods(executable) <= known

    paths = http_paths(executable)
    assert {call.http.split()[1].replace("/region/region", "/region/search") for call in CLOSED.values()} < paths
    http = server.host, server.ports["http"]
    assert answered_paths(http, executable) == HEALTH_PATHS | METADATA_PATHS
    http = keyed.server.host, keyed.server.ports["http"]
    for key in (None, keyed.every):
        assert answered_paths(http, executable, key) == HEALTH_PATHS


def test_metrics_need_a_key_that_reads_everything(server: TritonServer, keyed: Keyed) -> None:
    def status(running: TritonServer, key: str | None = None) -> int:
        return ask((running.host, running.ports["metrics"]), "GET", "/metrics", key=key)[0]

    assert status(server) == 200
    assert status(keyed.server) == status(keyed.server, WRONG) == 401
    assert status(keyed.server, keyed.with_right[Right.WRITE]) == 403
    assert status(keyed.server, keyed.with_right[Right.READ]) == status(keyed.server, keyed.every) == 200


def over_grpc(server: TritonServer, model: str, operation: str, key: str | None) -> str:
    request = kserve.request(model, _input(model), collection=COLLECTION, operation=operation)
    header = [("authorization", f"Bearer {key}")] if key else []
    with kserve.channel(server.address) as channel:
        try:
            rpc.GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=header, timeout=30)
        except grpc.RpcError as error:
            return error.details() or ""
    return ""


def in_a_stream(server: TritonServer, model: str, operation: str, key: str | None) -> str:
    request = kserve.request(model, _input(model), collection=COLLECTION, operation=operation)
    header = [("authorization", f"Bearer {key}")] if key else []
    with kserve.channel(server.address) as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)
        (answer,) = stub.ModelStreamInfer(iter([request]), metadata=header, timeout=30)
    return str(answer.error_message)


def over_http(server: TritonServer, model: str, operation: str, key: str | None) -> str:
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": text[0]} for name, text in _input(model).items()
    ]
    body = {"inputs": inputs, "parameters": {"collection": COLLECTION, "operation": operation}}
    address = (server.host, server.ports["http"])
    _, said = ask(address, "POST", f"/v2/models/{model}/infer", json.dumps(body), key)
    return str(json.loads(said).get("error", ""))


def _input(model: str) -> kserve.Inputs:
    name = {models.INGEST.name: "ID", models.CATALOG.name: "IDS"}.get(model, "QUERY")
    return {name: [["a text"]]}


@pytest.mark.parametrize("infer", [over_grpc, in_a_stream, over_http])
@pytest.mark.parametrize(
    ("model", "operation", "right"),
    [
        *(
            (model, str(operation.value), right)
            for model in OPERATIONS
            for operation, right in OPERATIONS[model].items()
        ),
        (models.SEARCH.name, "", Right.READ),
        (models.ENCODE_QUERY.name, "", Right.READ),
    ],
)
def test_a_key_does_what_its_right_allows(keyed: Keyed, infer: Infer, model: str, operation: str, right: Right) -> None:
    for key in (None, WRONG):
        refusal = untagged(infer(keyed.server, model, operation, key))
        assert refusal and refusal[0] is ErrorTag.UNAUTHENTICATED
    for other in set(Right) - {right}:
        refusal = untagged(infer(keyed.server, model, operation, keyed.with_right[other]))
        assert refusal and refusal[0] is ErrorTag.PERMISSION_DENIED and f"the right {right.value!r}" in refusal[1]
    # What it is about may be missing or wrong, but that is another matter.
    assert untagged(infer(keyed.server, model, operation, keyed.with_right[right])) is None


@pytest.mark.parametrize("how", ["generate", "generate_stream"])
@pytest.mark.parametrize("model", [models.SEARCH.name, models.INGEST.name])
def test_where_callers_need_keys_nobody_generates(keyed: Keyed, how: str, model: str) -> None:
    """Triton server hands no headers to models there."""
    inputs = {name: text[0][0] for name, text in _input(model).items()}
    body = json.dumps({**inputs, "parameters": {"collection": COLLECTION, "operation": "delete"}})
    for key in (None, WRONG, keyed.every):
        _, said = ask((keyed.server.host, keyed.server.ports["http"]), "POST", f"/v2/models/{model}/{how}", body, key)
        refusal = untagged(json.loads(said.removeprefix("data: "))["error"])
        assert refusal and refusal[0] is ErrorTag.UNAUTHENTICATED
