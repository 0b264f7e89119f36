"""A connection to a server, sync and async: how the calls of an operation are sent, and what an error becomes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

import grpc
from tritonclient.grpc import InferenceServerClient, aio
from tritonclient.utils import InferenceServerException

from .channel import CHANNEL_ARGUMENTS
from .errors import from_triton
from .operations import Operation, Operations
from .wire import Call

T = TypeVar("T")
C = TypeVar("C", bound="Connection")
A = TypeVar("A", bound="AsyncConnection")

DEFAULT_ADDRESS = "localhost:8001"
DEFAULT_TIMEOUT_S = 30.0


class Connection:
    """What `Client` says of a connection."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._operations = Operations()
        self._triton = InferenceServerClient(address, creds=credentials, channel_args=CHANNEL_ARGUMENTS)

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the client cannot be used afterwards."""
        self._triton.close()

    def _run(self, operation: Operation[T], timeout_s: float | None) -> T:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            call = next(operation)
            while True:
                call = operation.send(self._send(call, timeout_s))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()

    def _send(self, call: Call[Any], timeout_s: float) -> Any:
        method = getattr(self._triton, call.method)
        try:
            return method(**call.arguments_within(timeout_s), headers=self._headers, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise from_triton(error, timeout_s) from error


class AsyncConnection:
    """`Connection` for asyncio."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._operations = Operations()
        self._address = address
        self._credentials = credentials

    @cached_property
    def _triton(self) -> aio.InferenceServerClient:
        # Made at the first call: grpc.aio ties a channel to the event loop that runs then.
        return aio.InferenceServerClient(self._address, creds=self._credentials, channel_args=CHANNEL_ARGUMENTS)

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """`Client.close`, awaited."""
        await self._triton.close()

    async def _run(self, operation: Operation[T], timeout_s: float | None) -> T:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            call = next(operation)
            while True:
                call = operation.send(await self._send(call, timeout_s))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()

    async def _send(self, call: Call[Any], timeout_s: float) -> Any:
        method = getattr(self._triton, call.method)
        try:
            return await method(**call.arguments_within(timeout_s), headers=self._headers, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise from_triton(error, timeout_s) from error
