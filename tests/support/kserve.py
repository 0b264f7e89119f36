"""KServe requests field by field, over gRPC: also those that no client would send."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

_DTYPES = {"FP32": np.float32, "INT64": np.int64}

Inputs = Mapping[str, Any]
"""By name: numpy arrays, or lists of rows of strings."""


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    status: str
    """gRPC's name of it."""
    message: str
    tensors: dict[str, Any]
    """numpy arrays, and strings as lists of rows of bytes."""
    seconds: float

    def __str__(self) -> str:
        return f"{self.status} after {self.seconds:.2f} s: {self.message[:500]}"


def channel(address: str) -> grpc.Channel:
    """A connection of its own."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(address, options=[*unlimited, ("grpc.use_local_subchannel_pool", 1)])


def infer(
    connection: grpc.Channel,
    request: pb.ModelInferRequest,
    timeout_s: float = 60,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Sends a request and waits for its answer."""
    began = time.monotonic()
    try:
        response = rpc.GRPCInferenceServiceStub(connection).ModelInfer(
            request, timeout=timeout_s, metadata=list((headers or {}).items())
        )
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details() or "", {}, time.monotonic() - began)
    return Answer("OK", "", tensors(response), time.monotonic() - began)


def request(model: str, inputs: Inputs, outputs: Iterable[str] = (), **parameters: Any) -> pb.ModelInferRequest:
    """A request that is well formed."""
    made = pb.ModelInferRequest(model_name=model)
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            dtype = next(kind for kind, numpy in _DTYPES.items() if numpy == value.dtype)
            add_input(made, name, dtype, value.shape, np.ascontiguousarray(value).tobytes())
        else:
            add_input(made, name, "BYTES", (len(value), len(value[0])), strings(cell for row in value for cell in row))
    for name in outputs:
        made.outputs.add().name = name
    for name, value in parameters.items():
        set_parameter(made.parameters[name], value)
    return made


def add_input(made: pb.ModelInferRequest, name: str, dtype: str, shape: Sequence[int], raw: bytes) -> None:
    """Adds a tensor, whether its bytes are what its type and shape say or not."""
    made.inputs.add(name=name, datatype=dtype, shape=shape)
    made.raw_input_contents.append(raw)


def set_parameter(parameter: pb.InferParameter, value: Any) -> None:
    """Sets a parameter to a value of its own type; unsigned where it needs to be."""
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        setattr(parameter, "uint64_param" if value >= 2**63 else "int64_param", value)
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


def strings(values: Iterable[str | bytes]) -> bytes:
    """The bytes of a string tensor: before each string its length."""
    encoded = (value.encode() if isinstance(value, str) else value for value in values)
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


def tensors(response: pb.ModelInferResponse) -> dict[str, Any]:
    """The outputs of an answer."""
    return {
        output.name: _rows(raw, output.shape)
        if output.datatype == "BYTES"
        else np.frombuffer(raw, _DTYPES[output.datatype]).reshape(tuple(output.shape))
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _rows(raw: bytes, shape: Sequence[int]) -> list[list[bytes]]:
    values, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        values.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    width = shape[-1] or 1
    return [values[start : start + width] for start in range(0, len(values), width)]
