"""The connection that an application's adapter objects share."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

import grpc

from tridex.client import TLS, AsyncClient, Client
from tridex.client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from typing_extensions import Self


class Connection:
    """A server as adapters see it: a client for synchronous code and one for coroutines on any event loop.

        connection = Connection("localhost:8001", timeout_s=10)
        store = TridexVectorStore("docs", connection)
        rerank = TridexRerank(connection=connection)

    Adapter objects that share a connection see each other's writes, whichever of the two clients made them. Every
    adapter also takes an address in its place.

    Args:
        address: HOST:PORT of the server's gRPC endpoint, or HOST alone for port 8001.
        timeout_s: Seconds that each request may take, its retries included.
        headers: Sent with every request.
        api_key: Of a server that asks for keys.
        tls: Encrypt the channel: True, or which certificates.
        credentials: gRPC's own, in place of `tls`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        tls: TLS | bool = False,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.client = Client(
            address, timeout_s=timeout_s, headers=headers, api_key=api_key, tls=tls, credentials=credentials
        )
        self.async_client = AsyncClient(
            address, timeout_s=timeout_s, headers=headers, api_key=api_key, tls=tls, credentials=credentials
        )
        # Each sees what the other one wrote.
        self.async_client._versions = self.client._versions
        # Few applications close their stores. A channel that Python's own end meets open complains there.
        self._closed_at_exit = weakref.finalize(self, self.client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the synchronous client; `aclose` closes both."""
        self._closed_at_exit()

    async def aclose(self) -> None:
        """Closes both clients: the asynchronous one on the running event loop."""
        await self.async_client.close()
        self.close()


def connect(server: Connection | str) -> Connection:
    """The connection itself, or a new one to an address. Raises InvalidArgument for a malformed address."""
    return server if isinstance(server, Connection) else Connection(server)
