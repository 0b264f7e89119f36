"""Sends attacks to a server, over gRPC or HTTP, and says how each ended."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol
from urllib.parse import quote

import grpc
import kserve
from control_calls import CALLS, INFERENCE
from fuzz_attacks import Attack
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

NO_ANSWER = "NO_ANSWER"
"""The status of a call that was not answered within its deadline."""


@dataclass(frozen=True)
class Outcome:
    """How an attack ended."""

    status: str
    messages: tuple[str, ...] = ()
    """What the server said of errors."""
    missing: int = 0
    """Answers of a stream that did not come."""


class Sender(Protocol):
    """A connection to a server."""

    def __call__(self, attack: Attack) -> Outcome: ...


class GrpcSender:
    """One channel."""

    def __init__(self, address: str) -> None:
        self._channel = kserve.channel(address)

    def __call__(self, attack: Attack) -> Outcome:
        path = f"/inference.GRPCInferenceService/{attack.method}"
        try:
            return self._stream(path, attack) if attack.method == "ModelStreamInfer" else self._call(path, attack)
        except grpc.FutureCancelledError:
            return Outcome("CANCELLED")
        except grpc.RpcError as error:
            status = error.code().name
            return Outcome(NO_ANSWER if status == "DEADLINE_EXCEEDED" else status, (error.details() or "",))

    def _call(self, path: str, attack: Attack) -> Outcome:
        (message,) = attack.messages
        future = self._channel.unary_unary(path).future(message, attack.deadline_s, attack.metadata)
        if attack.cancel_after_s is not None:
            time.sleep(attack.cancel_after_s)
            future.cancel()
        future.result()
        return Outcome("OK")

    def _stream(self, path: str, attack: Attack) -> Outcome:
        call = self._channel.stream_stream(path)(iter(attack.messages), attack.deadline_s, attack.metadata)
        if attack.cancel_after_s is not None:
            threading.Timer(attack.cancel_after_s, call.cancel).start()
        answers = [pb.ModelStreamInferResponse.FromString(answer) for answer in call]
        messages = tuple(answer.error_message for answer in answers if answer.error_message)
        return Outcome("ERROR" if messages else "OK", messages, len(attack.messages) - len(answers))


class HttpSender:
    """A connection for each attack: as JSON, with Triton server's binary extension, in chunks, or broken."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port

    def __call__(self, attack: Attack) -> Outcome:
        rng = Random(attack.number)
        connection = http.client.HTTPConnection(*self._address, timeout=attack.deadline_s)
        try:
            verb, path, body, headers = _http_request(rng, attack)
            in_chunks = not attack.is_big and rng.random() < 0.1
            connection.request(verb, path, _chunks(body) if in_chunks else body, headers, encode_chunked=in_chunks)
            if attack.cancel_after_s is not None:
                time.sleep(attack.cancel_after_s)
                return Outcome("CANCELLED")
            response = connection.getresponse()
            said = response.read()
            return Outcome("OK") if response.status == 200 else Outcome(str(response.status), (_error(said),))
        except TimeoutError:
            return Outcome(NO_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            return Outcome("BROKEN", (repr(error),))
        finally:
            connection.close()


def _chunks(body: bytes) -> Iterator[bytes]:
    size = max(1, len(body) // 20)
    return (body[start : start + size] for start in range(0, len(body), size))


def _error(said: bytes) -> str:
    """What Triton server says of an error, or everything where that is nothing of its."""
    try:
        return str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        return said.decode(errors="replace")


def _http_request(rng: Random, attack: Attack) -> tuple[str, str, bytes, dict[str, str]]:
    """Verb, path, body and headers of the same attack."""
    if attack.method not in INFERENCE:
        call = rng.choice([call for call in CALLS.values() if call.method == attack.method])
        bodies = (b"", b"{}", b"[", b"\xff", json.dumps(call.body).encode())
        verb, path = call.http.split()
        return verb, path, rng.choice(bodies), {}
    try:
        request = pb.ModelInferRequest.FromString(attack.messages[0])
    except DecodeError:
        return "POST", "/v2/models/search/infer", attack.messages[0], {}
    version = f"/versions/{quote(request.model_version, safe='')}" if request.model_version else ""
    path = f"/v2/models/{quote(request.model_name[:1000], safe='')}{version}/infer"
    binary = rng.random() < 0.5
    head = json.dumps(_json(request, binary), ensure_ascii=False).encode(errors="surrogateescape")
    body = head + b"".join(request.raw_input_contents) if binary else head
    headers = {"Content-Type": "application/json"}
    if binary:
        length = len(head) if rng.random() < 0.8 else rng.choice((0, -1, len(head) - 1, len(body) + 1, 2**63, "x"))
        headers["Inference-Header-Content-Length"] = str(length)
    if rng.random() < 0.1:
        body = rng.choice((body[: rng.randrange(len(body) + 1)], b"", b"[" * 10_000, body.replace(b'"', b"", 1)))
    return "POST", path, body, headers


def _json(request: pb.ModelInferRequest, binary: bool) -> dict[str, Any]:
    inputs = []
    for place, tensor in enumerate(request.inputs):
        raw = request.raw_input_contents[place] if place < len(request.raw_input_contents) else b""
        said = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        if binary:
            said["parameters"] = {**_parameters(tensor.parameters), "binary_data_size": len(raw)}
        else:
            said["data"] = _data(tensor.datatype, raw)
        inputs.append(said)
    outputs = [{"name": output.name, "parameters": _parameters(output.parameters)} for output in request.outputs]
    return {
        "id": request.id,
        "parameters": _parameters(request.parameters),
        "inputs": inputs,
        **({"outputs": outputs} if outputs else {}),
    }


def _parameters(given: Any) -> dict[str, Any]:
    kinds = {name: parameter.WhichOneof("parameter_choice") for name, parameter in given.items()}
    return {name: getattr(given[name], kind) if kind else None for name, kind in kinds.items()}


def _data(datatype: str, raw: bytes) -> Sequence[Any]:
    """A tensor's values, as far as JSON has them."""
    if datatype == "BYTES":
        return [value.decode(errors="surrogateescape") for value in _strings(raw)]
    sizes = {"FP32": "f", "INT64": "q"}
    if datatype in sizes and len(raw) % 8 == 0:
        return memoryview(raw).cast(sizes[datatype]).tolist()
    return [base64.b64encode(raw).decode()]


def _strings(raw: bytes) -> Iterator[bytes]:
    """The strings of a tensor, as long as its lengths are right."""
    start = 4
    while start <= len(raw) and start + (length := int.from_bytes(raw[start - 4 : start], "little")) <= len(raw):
        yield raw[start : start + length]
        start += length + 4
