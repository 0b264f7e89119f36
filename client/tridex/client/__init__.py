"""The client of a Tridex server: gRPC (sync and asyncio), typed results and errors, and the command line in `.cli`.

Needs numpy and tritonclient, no torch: what encodes and scores is on the server.
"""

from tridex.common import TridexError

from .async_client import AsyncClient
from .client import Client
from .errors import (
    AlreadyExists,
    ClientError,
    InvalidArgument,
    NotFound,
    Overloaded,
    ReadOnly,
    ResourceExhausted,
    ServerError,
    Timeout,
    Unavailable,
)
from .results import (
    CollectionInfo,
    Document,
    Embeddings,
    Hit,
    ModelStatistics,
    RerankResult,
    SearchResult,
    ServerInfo,
)

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "Client",
    "ClientError",
    "CollectionInfo",
    "Document",
    "Embeddings",
    "Hit",
    "InvalidArgument",
    "ModelStatistics",
    "NotFound",
    "Overloaded",
    "ReadOnly",
    "RerankResult",
    "ResourceExhausted",
    "SearchResult",
    "ServerError",
    "ServerInfo",
    "Timeout",
    "TridexError",
    "Unavailable",
]
