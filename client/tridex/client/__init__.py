"""The client of a Tridex server: gRPC (sync and asyncio), typed results and errors, and the command line in `.cli`.

`AsyncClient` has the methods of `Client`, to be awaited. It works on any event loop, and opens a channel on each.

Needs numpy and tritonclient, no torch: what encodes and scores is on the server.
"""

from tridex.common import TridexError
from tridex.protocol.parameters import CodecName, LongDocumentsName, SearchModeName

from ._async.client import AsyncClient
from ._sync.client import Client
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
from .explanation import DocumentToken, Explanation, QueryToken, Span, Token
from .rendering import explanations_html, explanations_svg
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
from .search_options import Filters, SearchOptions

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "Client",
    "ClientError",
    "CodecName",
    "CollectionInfo",
    "Document",
    "DocumentToken",
    "Embeddings",
    "Explanation",
    "Filters",
    "Hit",
    "InvalidArgument",
    "LongDocumentsName",
    "ModelStatistics",
    "NotFound",
    "Overloaded",
    "QueryToken",
    "ReadOnly",
    "RerankResult",
    "ResourceExhausted",
    "SearchModeName",
    "SearchOptions",
    "SearchResult",
    "ServerError",
    "ServerInfo",
    "Span",
    "Timeout",
    "Token",
    "TridexError",
    "Unavailable",
    "explanations_html",
    "explanations_svg",
]
