"""What a served model is, without Triton server: requests in, a result for each out.

`python_backend` runs a service inside Triton server's Python backend; a test calls it directly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tridex.protocol.error_tags import ErrorTag
from tridex.protocol.tensors import Tensor
from tridex.serving.access.callers import AccessError
from tridex.serving.gate import Door, GateLane, no_gate
from tridex.serving.metrics.registry import Metrics

from . import device_failure
from .timeline import Timeline
from .trace_context import TraceContext

_log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

MayRead = Callable[[str], bool]
"""Whether somebody may know of a collection or alias of a name."""

Arrays = Mapping[str, Any]
"""Tensors by name, batch dimension included: numpy, or a torch tensor where it already lies on the GPU."""


class ErrorCode(str, Enum):
    """Why a request failed: the Python backend's name of the status code, or our tag where it has no such code."""

    INVALID_ARGUMENT = "INVALID_ARG"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    UNAVAILABLE = "UNAVAILABLE"
    RESOURCE_EXHAUSTED = ErrorTag.RESOURCE_EXHAUSTED.value
    OVERLOADED = ErrorTag.OVERLOADED.value
    READ_ONLY = ErrorTag.READ_ONLY.value
    DEADLINE_EXCEEDED = ErrorTag.DEADLINE_EXCEEDED.value
    UNAUTHENTICATED = ErrorTag.UNAUTHENTICATED.value
    PERMISSION_DENIED = ErrorTag.PERMISSION_DENIED.value
    INTERNAL = "INTERNAL"


class RequestError(Exception):
    """Fails one request of a batch alone, with the code from which the client makes its typed error.

    `told` is the message for who may read some collections alone, where that is another one.
    """

    def __init__(self, code: ErrorCode, message: str, told: Callable[[MayRead], str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self._told = told

    def to(self, sender: Sender) -> RequestError:
        """As that sender may be told it."""
        return RequestError(self.code, self._told(sender.may_read)) if self._told else self


def invalid(message: str) -> RequestError:
    """A request that no retry will make right; `message` names the field, its value and what was expected."""
    return RequestError(ErrorCode.INVALID_ARGUMENT, message)


def abandoned() -> RequestError:
    """What becomes of a request for whose answer nobody waits any more."""
    return RequestError(ErrorCode.DEADLINE_EXCEEDED, "its sender waits no longer")


def as_request_error(error: BaseException, event: str, sender: Sender | None = None) -> RequestError:
    """What a client is told of an error. The details of an unexpected one go to the log alone, under `event`, with the
    trace of the `sender` whose request it is, where it is one's alone."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, AccessError):
        return RequestError(ErrorCode(error.tag.value), str(error))
    trace_id = sender.trace.trace_id if sender and sender.trace else None
    _log.error(event, exc_info=error, extra={"trace_id": trace_id})
    if device_failure.note(error):
        return device_failed()
    return RequestError(ErrorCode.INTERNAL, f"internal error ({type(error).__name__}); the server's log says more")


def device_failed() -> RequestError:
    """What is answered when the GPU has failed: it may be sent again to the server that is started then."""
    return RequestError(ErrorCode.UNAVAILABLE, "the server's GPU failed, and the server starts again")


@dataclass(frozen=True)
class Sender:
    """Who waits for the answer to a request, for how long, and what it may say."""

    timeout_s: float | None = None
    """None where the request carries no timeout."""
    is_cancelled: Callable[[], bool] = bool
    """Whether the sender has cancelled the request (0.3 µs)."""
    may_read: MayRead = lambda _: True
    trace: TraceContext | None = None
    """The caller's trace, where the request belongs to one."""
    timeline: Timeline = field(default_factory=Timeline)

    @property
    def arrived_at(self) -> float:
        """By the monotonic clock."""
        return self.timeline.arrived_at

    @property
    def has_left(self) -> bool:
        """Whether nobody waits for the answer any more."""
        late = self.timeout_s is not None and time.monotonic() - self.arrived_at > self.timeout_s
        return late or self.is_cancelled()


class HasSender(Protocol):
    """A request, raw or parsed."""

    @property
    def sender(self) -> Sender: ...


@dataclass(frozen=True)
class Request:
    """One client's request as it arrives: its tensors and its parameters (str, int, bool)."""

    inputs: Arrays
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sender: Sender = field(default_factory=Sender)

    def get(self, tensor: Tensor) -> Any | None:
        """The input, or None where an optional one was not sent."""
        return self.inputs.get(tensor.name)


Result = Arrays | RequestError | Future[Arrays | RequestError]
"""A Future is answered when it is done, and does not delay the other requests of its batch."""


class Infer(Protocol):
    """Calls another model of the same server."""

    def __call__(self, model: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]: ...


@dataclass(frozen=True)
class Context:
    """What a service is given at start."""

    repository: Path
    """The model repository, for the exported encoder's artifact."""
    device: str
    """torch device: "cpu" or "cuda:N"."""
    store: Path
    """The folder that holds the collections."""
    infer: Infer
    metrics: Metrics
    server_device: str = "cpu"
    """What the server computes on, also where this model sees no GPU."""
    memory_budget: int = 2**30
    """Bytes for collections on the device that searches them."""
    recall_sample_rate: float = 0.01
    """Share of the approximate searches that the recall monitor repeats exactly."""
    tensorrt: bool = False
    """Whether TensorRT encodes searches, on a GPU."""
    shared: Path | None = None
    """A folder of this tritonserver's, by which its models' processes share memory."""
    gate: Callable[[GateLane], Door] = no_gate
    """By which a lane tells the front ends how long requests wait, and learns what they have refused."""


class Service(Protocol):
    """A served model: built once (and warm when built), then given every batch."""

    NICENESS: ClassVar[int] = 0
    """Added to the nice value (nice(2)) of the model's process."""

    def __init__(self, context: Context) -> None: ...

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        """One result per request, in order. A RequestError among them fails its request only."""
        ...

    def trouble(self) -> str | None:
        """What is wrong with the service's threads, None where nothing is: asked every half second, by another thread.

        While a model reports trouble, the server is not ready.
        """
        return None

    def check(self) -> None:
        """Has the service do a little of its work, and raises where that fails, or what comes out is wrong (canary.py).

        Called every few seconds, by another thread, once all models are ready.
        """

    def close(self) -> None:
        """Ends the service's threads."""


def each(requests: Sequence[T], handle: Callable[[T], R]) -> list[R | RequestError]:
    """Handles requests one by one: whatever is raised fails its request alone."""
    results: list[R | RequestError] = []
    for request in requests:
        try:
            results.append(handle(request))
        except Exception as error:
            sender = getattr(request, "sender", None)
            results.append(as_request_error(error, "a request failed", sender))
    return results


def as_strings(values: Sequence[str | bytes]) -> NDArray[np.object_]:
    """A string tensor [len(values)] as Triton server takes it."""
    array = np.empty(len(values), dtype=object)
    array[:] = [value.encode() if isinstance(value, str) else value for value in values]
    return array
