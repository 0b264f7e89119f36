"""How one attempt at a call is sent, by gRPC and by gRPC for asyncio: all that differs between the two clients.

Both are written by hand, with the same methods; the clients that use them are one source (`_async/`, `_sync/`).
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
from tritonclient.grpc import InferenceServerClient, aio

from .channel import CHANNEL_ARGUMENTS, Headers, target
from .checks import invalid
from .errors import InvalidArgument
from .tls import TLS
from .wire import Call


class _Endpoint:
    """What a channel is opened with, checked, and whether its client is closed."""

    def __init__(self, address: str, tls: TLS | bool, credentials: grpc.ChannelCredentials | None) -> None:
        if not (credentials is None or isinstance(credentials, grpc.ChannelCredentials)):
            raise invalid("credentials", credentials, "grpc.ChannelCredentials, such as grpc.ssl_channel_credentials()")
        if not isinstance(tls, (TLS, bool)):
            raise invalid("tls", tls, "a TLS(), True or False")
        if tls and credentials is not None:
            raise InvalidArgument("tls: expected it, or credentials; got both")
        self._address, encrypted = target(address)
        if tls or (encrypted and credentials is None):
            credentials = (tls if isinstance(tls, TLS) else TLS()).credentials()
        self._credentials = credentials
        self._closed = False

    def check_open(self) -> None:
        """Raises InvalidArgument where the client is closed."""
        if self._closed:
            raise InvalidArgument("client: expected one that is open, got one that was closed")

    @staticmethod
    def _arguments(call: Call[Any], timeout_s: float, headers: Headers) -> dict[str, Any]:
        """For tritonclient's method, of an attempt that may take so long."""
        return {**call.arguments_within(timeout_s), "headers": headers, "client_timeout": timeout_s}


class _Triton(InferenceServerClient):  # type: ignore[misc]
    """Without the traceback that tritonclient's `__del__` prints where it comes after grpc's end, closed or not."""

    def __del__(self) -> None:
        if not sys.is_finalizing():
            super().__del__()


class Transport(_Endpoint):
    """One channel, which threads may share."""

    def __init__(self, address: str, tls: TLS | bool, credentials: grpc.ChannelCredentials | None) -> None:
        super().__init__(address, tls, credentials)
        self._triton = _Triton(self._address, creds=self._credentials, channel_args=CHANNEL_ARGUMENTS)

    def send(self, call: Call[Any], timeout_s: float, headers: Headers) -> Any:
        """Tritonclient's answer, or the exception it raises."""
        return getattr(self._triton, call.method)(**self._arguments(call, timeout_s, headers))

    def close(self) -> None:
        """Ends the calls under way."""
        self._closed = True
        self._triton.close()


class AsyncTransport(_Endpoint):
    """A channel for each event loop: grpc.aio ties a channel to the loop that it was opened on."""

    def __init__(self, address: str, tls: TLS | bool, credentials: grpc.ChannelCredentials | None) -> None:
        super().__init__(address, tls, credentials)
        self._by_loop: dict[asyncio.AbstractEventLoop, aio.InferenceServerClient] = {}

    async def send(self, call: Call[Any], timeout_s: float, headers: Headers) -> Any:
        """`Transport.send`, awaited."""
        method = getattr(self._triton(), call.method)
        try:
            return await method(**self._arguments(call, timeout_s, headers))
        except asyncio.CancelledError:
            # Also what becomes of the calls of a channel that is closed.
            self.check_open()
            raise

    async def close(self) -> None:
        """Ends the calls under way on this event loop; the channels of others are let go."""
        self._closed = True
        own = self._by_loop.pop(asyncio.get_running_loop(), None)
        self._by_loop.clear()
        if own is not None:
            await own.close()

    def _triton(self) -> aio.InferenceServerClient:
        """The one of the running event loop."""
        running = asyncio.get_running_loop()
        if running not in self._by_loop:
            for loop in list(self._by_loop):
                if loop.is_closed():
                    self._by_loop.pop(loop, None)
            self._by_loop[running] = aio.InferenceServerClient(
                self._address, creds=self._credentials, channel_args=CHANNEL_ARGUMENTS
            )
        return self._by_loop[running]
