"""Every call of Triton server's gRPC and HTTP protocols but inference, and who may make it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from triton_paths import http_paths
from tritonclient.grpc import service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
INFERENCE = ("ModelInfer", "ModelStreamInfer")

_NOT_THERE = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_CODE = b"raise SystemExit"
_FILE = "/tmp/by-a-caller"
_TRACE = {"trace_level": ["TIMESTAMPS"], "trace_file": [_FILE]}


@dataclass(frozen=True)
class ControlCall:
    """One call, as each protocol has it."""

    method: str
    request: Message
    http: str
    """Verb and path."""
    body: Mapping[str, Any] = field(default_factory=dict)

    def over_grpc(self, channel: grpc.Channel, key: str | None = None) -> tuple[str, str]:
        """gRPC's status and message."""
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{self.method}")
        try:
            call(self.request.SerializeToString(), metadata=_headers(key).items(), timeout=30)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        return "OK", ""

    def over_http(
        self, address: tuple[str, int], key: str | None = None, tls: ssl.SSLContext | None = None
    ) -> tuple[int, str]:
        """HTTP's status and the body of the answer."""
        verb, path = self.http.split()
        body = json.dumps(self.body) if verb == "POST" else None
        return ask(address, verb, path, body, key, tls)


def ask(
    address: tuple[str, int],
    verb: str,
    path: str,
    body: str | None = None,
    key: str | None = None,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] = {},
) -> tuple[int, str]:
    """One HTTP request on a connection of its own: status and body of the answer."""
    if tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(*address, timeout=30, context=tls)
    else:
        connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request(verb, path, body, {**_headers(key), **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def answered_paths(address: tuple[str, int], executable: Path, key: str | None = None) -> set[str]:
    """The paths of a tritonserver's HTTP, but for requests to models, that it neither refuses nor lacks."""
    answered = set()
    for path in http_paths(executable):
        if path.endswith(("/infer", "/generate", "/generate_stream")):
            continue
        for verb in ("GET", "POST"):
            status, message = ask(address, verb, path, "{}" if verb == "POST" else None, key)
            # What is looked at and found wrong is told with a message.
            if status not in _NOT_THERE and (status, message) != (HTTPStatus.BAD_REQUEST, ""):
                answered.add(path)
    return answered


def _headers(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _load(**parameters: pb.ModelRepositoryParameter) -> pb.RepositoryModelLoadRequest:
    return pb.RepositoryModelLoadRequest(model_name="search", parameters=parameters)


def _shared_memory(kind: str, register: Message, named: Mapping[str, Any]) -> dict[str, ControlCall]:
    """What there is for system and CUDA shared memory alike."""
    path = f"/v2/{kind.lower()}sharedmemory"
    status, unregister = (getattr(pb, f"{kind}SharedMemory{action}Request") for action in ("Status", "Unregister"))
    return {
        f"{kind} shared memory": ControlCall(
            f"{kind}SharedMemoryRegister", register, f"POST {path}/region/region/register", named
        ),
        f"{kind} shared memory, gone": ControlCall(
            f"{kind}SharedMemoryUnregister", unregister(name="region"), f"POST {path}/region/region/unregister"
        ),
        f"{kind} shared memory, all gone": ControlCall(
            f"{kind}SharedMemoryUnregister", unregister(), f"POST {path}/unregister"
        ),
        f"{kind} shared memory, status": ControlCall(
            f"{kind}SharedMemoryStatus", status(name="region"), f"GET {path}/region/region/status"
        ),
        f"{kind} shared memory, every status": ControlCall(f"{kind}SharedMemoryStatus", status(), f"GET {path}/status"),
    }


CLOSED = {
    "repository index": ControlCall("RepositoryIndex", pb.RepositoryIndexRequest(), "POST /v2/repository/index"),
    "load": ControlCall("RepositoryModelLoad", _load(), "POST /v2/repository/models/search/load"),
    "code upload": ControlCall(
        "RepositoryModelLoad",
        _load(
            config=pb.ModelRepositoryParameter(string_param="{}"),
            **{"file:1/model.py": pb.ModelRepositoryParameter(bytes_param=_CODE)},
        ),
        "POST /v2/repository/models/search/load",
        {"parameters": {"config": "{}", "file:1/model.py": base64.b64encode(_CODE).decode()}},
    ),
    "unload": ControlCall(
        "RepositoryModelUnload",
        pb.RepositoryModelUnloadRequest(model_name="search"),
        "POST /v2/repository/models/search/unload",
    ),
    "model config": ControlCall("ModelConfig", pb.ModelConfigRequest(name="search"), "GET /v2/models/search/config"),
    **_shared_memory(
        "System",
        pb.SystemSharedMemoryRegisterRequest(name="region", key="/region", byte_size=64),
        {"key": "/region", "offset": 0, "byte_size": 64},
    ),
    **_shared_memory(
        "Cuda",
        pb.CudaSharedMemoryRegisterRequest(name="region", raw_handle=bytes(64), byte_size=64),
        {"raw_handle": {"b64": base64.b64encode(bytes(64)).decode()}, "device_id": 0, "byte_size": 64},
    ),
    "log settings": ControlCall("LogSettings", pb.LogSettingsRequest(), "GET /v2/logging"),
    "log to a file": ControlCall(
        "LogSettings",
        pb.LogSettingsRequest(settings={"log_file": pb.LogSettingsRequest.SettingValue(string_param=_FILE)}),
        "POST /v2/logging",
        {"log_file": _FILE},
    ),
    "trace settings": ControlCall("TraceSetting", pb.TraceSettingRequest(), "GET /v2/trace/setting"),
    "trace to a file": ControlCall(
        "TraceSetting",
        pb.TraceSettingRequest(
            settings={name: pb.TraceSettingRequest.SettingValue(value=value) for name, value in _TRACE.items()}
        ),
        "POST /v2/trace/setting",
        _TRACE,
    ),
    "trace settings of a model": ControlCall(
        "TraceSetting", pb.TraceSettingRequest(model_name="search"), "GET /v2/models/search/trace/setting"
    ),
    "trace of a model to a file": ControlCall(
        "TraceSetting",
        pb.TraceSettingRequest(
            model_name="search",
            settings={name: pb.TraceSettingRequest.SettingValue(value=value) for name, value in _TRACE.items()},
        ),
        "POST /v2/models/search/trace/setting",
        _TRACE,
    ),
}
"""The calls by which a server is administered, which no caller may make."""

CLOSED_WITH_KEYS = {
    "server metadata": ControlCall("ServerMetadata", pb.ServerMetadataRequest(), "GET /v2"),
    "model metadata": ControlCall("ModelMetadata", pb.ModelMetadataRequest(name="search"), "GET /v2/models/search"),
    "statistics": ControlCall("ModelStatistics", pb.ModelStatisticsRequest(), "GET /v2/models/stats"),
    "statistics of a model": ControlCall(
        "ModelStatistics", pb.ModelStatisticsRequest(name="catalog"), "GET /v2/models/catalog/stats"
    ),
}
"""The calls that tell of models, which no caller may make where callers need keys."""

HEALTH = {
    "live": ControlCall("ServerLive", pb.ServerLiveRequest(), "GET /v2/health/live"),
    "ready": ControlCall("ServerReady", pb.ServerReadyRequest(), "GET /v2/health/ready"),
    "model ready": ControlCall("ModelReady", pb.ModelReadyRequest(name="search"), "GET /v2/models/search/ready"),
}
"""The calls that everybody may make, those of the launcher's own HTTP endpoint first."""

METADATA_PATHS = {
    "/v2",
    "/v2/models/stats",
    *(f"/v2/models/search{version}{what}" for version in ("", "/versions/1") for what in ("", "/stats")),
}
HEALTH_PATHS = {
    "/v2/health/live",
    "/v2/health/ready",
    *(f"/v2/models/search{version}/ready" for version in ("", "/versions/1")),
}
"""Every path of those of CLOSED_WITH_KEYS and of HEALTH."""

CALLS = {**CLOSED, **CLOSED_WITH_KEYS, **HEALTH}
assert {call.method for call in CALLS.values()} == {method.name for method in SERVICE.methods} - {*INFERENCE}
