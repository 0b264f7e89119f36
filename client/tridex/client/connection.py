"""A connection to a server, sync and async: how the calls of an operation are sent, and what an error becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

import grpc
from tritonclient.grpc import InferenceServerClient, aio
from tritonclient.utils import InferenceServerException

from tridex.common import TridexError

from . import checks
from .channel import CHANNEL_ARGUMENTS, DEFAULT_ADDRESS, check_credentials, headers_of, target
from .errors import InvalidArgument
from .operations import Operation, Operations
from .retries import Attempts
from .wire import Call

T = TypeVar("T")
C = TypeVar("C", bound="Connection")
A = TypeVar("A", bound="AsyncConnection")

DEFAULT_TIMEOUT_S = 30.0


class _Settings:
    """What a client is made with, checked, and whether it is closed."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        check_credentials(credentials)
        self._address = target(address, encrypted=credentials is not None)
        self._credentials = credentials
        self._timeout_s = checks.timeout(timeout_s)
        self._headers = headers_of(headers)
        self._operations = Operations()
        self._closed = False

    def _allowed_s(self, timeout_s: float | None) -> float:
        """Seconds for each request of an operation that begins now."""
        self._check_open()
        return self._timeout_s if timeout_s is None else checks.timeout(timeout_s)

    def _arguments(self, call: Call[Any], attempts: Attempts) -> dict[str, Any]:
        """For tritonclient's method, of the next attempt."""
        left_s = attempts.left_s()
        return {**call.arguments_within(left_s), "headers": self._headers, "client_timeout": left_s}

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidArgument("client: expected one that is open, got one that was closed")

    def _pause_s(self, attempts: Attempts, error: Exception) -> float:
        """Seconds to wait after an attempt that failed. Raises what the caller gets where there is to be no other."""
        self._check_open()
        if isinstance(error, InferenceServerException):
            return attempts.pause_s(error)
        raise TridexError(f"the request could not be sent: {error!r}") from error


class Connection(_Settings):
    """What `Client` says of a connection."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        super().__init__(address, timeout_s=timeout_s, headers=headers, credentials=credentials)
        self._triton = InferenceServerClient(self._address, creds=credentials, channel_args=CHANNEL_ARGUMENTS)

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the client cannot be used afterwards."""
        self._closed = True
        self._triton.close()

    def _run(self, operation: Operation[T], timeout_s: float | None) -> T:
        try:
            allowed_s = self._allowed_s(timeout_s)
            call = next(operation)
            while True:
                try:
                    answer = self._send(call, Attempts(call, allowed_s))
                except TridexError as error:
                    call = operation.throw(error)
                else:
                    call = operation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()

    def _send(self, call: Call[Any], attempts: Attempts) -> Any:
        while True:
            self._check_open()
            try:
                return getattr(self._triton, call.method)(**self._arguments(call, attempts))
            except Exception as error:
                failure = error
            time.sleep(self._pause_s(attempts, failure))


class AsyncConnection(_Settings):
    """`Connection` for asyncio."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        super().__init__(address, timeout_s=timeout_s, headers=headers, credentials=credentials)
        self._by_loop: dict[asyncio.AbstractEventLoop, aio.InferenceServerClient] = {}

    @property
    def _triton(self) -> aio.InferenceServerClient:
        """The one of the event loop that runs: grpc.aio ties a channel to it."""
        running = asyncio.get_running_loop()
        if running not in self._by_loop:
            for loop in list(self._by_loop):
                if loop.is_closed():
                    self._by_loop.pop(loop, None)
            self._by_loop[running] = aio.InferenceServerClient(
                self._address, creds=self._credentials, channel_args=CHANNEL_ARGUMENTS
            )
        return self._by_loop[running]

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """`Client.close`, awaited."""
        self._closed = True
        here = self._by_loop.pop(asyncio.get_running_loop(), None)
        self._by_loop.clear()
        if here is not None:
            await here.close()

    async def _run(self, operation: Operation[T], timeout_s: float | None) -> T:
        try:
            allowed_s = self._allowed_s(timeout_s)
            call = next(operation)
            while True:
                try:
                    answer = await self._send(call, Attempts(call, allowed_s))
                except TridexError as error:
                    call = operation.throw(error)
                else:
                    call = operation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            operation.close()

    async def _send(self, call: Call[Any], attempts: Attempts) -> Any:
        while True:
            self._check_open()
            try:
                return await getattr(self._triton, call.method)(**self._arguments(call, attempts))
            except asyncio.CancelledError:
                # Also what becomes of the calls of a channel that is closed.
                self._check_open()
                raise
            except Exception as error:
                failure = error
            await asyncio.sleep(self._pause_s(attempts, failure))
