"""One request to a served model, without I/O: tensors in, tensors out, parameters beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import np_to_triton_dtype

from tridex.common import TridexError
from tridex.protocol import limits
from tridex.protocol.tensors import Ensemble, Model, Tensor

from .errors import InvalidArgument, ServerError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Array: TypeAlias = NDArray[Any]
Parameters: TypeAlias = Mapping[str, str | int]
Answer: TypeAlias = Callable[[Tensor], Array]
"""The tensors of an answer; a tensor that is missing is a ServerError."""


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """One request: the method of tritonclient's InferenceServerClient, its arguments, and how the answer is read.

    `retried`: whether it is sent again where the server could not be reached or was not ready. `queries` and `texts`:
    those that it asks with, and those that it asks about, for traces.
    """

    method: str
    arguments: Mapping[str, Any]
    read: Callable[[Any], T_co]
    retried: bool = True
    queries: Sequence[bytes] = ()
    texts: Sequence[bytes] = ()

    def arguments_within(self, timeout_s: float) -> dict[str, Any]:
        """The arguments of an attempt that may take so long. An inference tells the server, where a search may wait."""
        # 0 would be no end at all.
        timeout = {"timeout": max(1, round(timeout_s * 1e6))} if self.method == "infer" else {}
        return {**self.arguments, **timeout}

    def result(self, answer: Any) -> T_co:
        """What tritonclient's answer says. Raises ServerError where it cannot be read."""
        try:
            return self.read(answer)
        except TridexError:
            raise
        except Exception as error:  # a server of another version may answer with anything
            raise ServerError(f"{self.method}: cannot read the server's answer: {error!r}") from error


def infer(
    model: Model | Ensemble,
    inputs: Mapping[Tensor, Array],
    outputs: Sequence[Tensor],
    parameters: Parameters,
    read: Callable[[Answer], T],
    queries: Sequence[bytes] = (),
    texts: Sequence[bytes] = (),
) -> Call[T]:
    """A request to `model`; `read` makes the result of the answer's tensors. Raises InvalidArgument where it is too
    large."""
    size = sum(map(_wire_bytes, inputs.values()))
    if size > limits.MAX_MESSAGE_BYTES:
        # gRPC would report RESOURCE_EXHAUSTED, which reads as "try again later".
        raise InvalidArgument(
            f"{model.name}: expected at most {limits.MAX_MESSAGE_BYTES} bytes in one request, got {size}"
        )

    def read_tensors(result: InferResult) -> T:
        def tensor(spec: Tensor) -> Array:
            array: Array | None = result.as_numpy(spec.name)
            if array is None:
                raise ServerError(f"{model.name} answered without the tensor {spec.name}")
            if np_to_triton_dtype(array.dtype) != spec.dtype.value or array.ndim != 1 + len(spec.shape):
                raise ServerError(
                    f"{model.name} answered with {spec.name} of type {array.dtype} and shape {array.shape}; expected "
                    f"{spec.dtype.value} and {1 + len(spec.shape)} dimensions"
                )
            return array

        return read(tensor)

    arguments = {
        "model_name": model.name,
        "inputs": [_infer_input(spec, array) for spec, array in inputs.items()],
        "outputs": [InferRequestedOutput(spec.name) for spec in outputs],
        "parameters": dict(parameters),
    }
    return Call("infer", arguments, read_tensors, queries=queries, texts=texts)


def string_rows(values: Sequence[Sequence[bytes]]) -> Array:
    """A string tensor [rows, columns]."""
    return np.array([list(row) for row in values], dtype=np.object_)


def string_column(values: Sequence[bytes]) -> Array:
    """A string tensor [values, 1]."""
    return string_rows([[value] for value in values])


def _infer_input(spec: Tensor, array: Array) -> InferInput:
    return InferInput(spec.name, array.shape, spec.dtype.value).set_data_from_numpy(array)


def _wire_bytes(array: Array) -> int:
    return sum(4 + len(value) for value in array.flat) if array.dtype == np.object_ else array.nbytes
