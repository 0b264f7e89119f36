"""The client of a Tridex server: gRPC (sync and asyncio), typed results and errors, and the command line in `.cli`.

`AsyncClient` has the methods of `Client`, to be awaited. It works on any event loop, and opens a channel on each.

Needs numpy and tritonclient, no torch: what encodes and scores is on the server.
"""

from typing import TYPE_CHECKING

from tridex.common import TridexError
from tridex.common.lazy import lazy_exports
from tridex.protocol.parameters import CodecName, IfExistsName, LongDocumentsName, SearchModeName

if TYPE_CHECKING:
    from ._async.client import AsyncClient
    from ._sync.client import Client
    from .errors import (
        AlreadyExists,
        ClientError,
        InvalidArgument,
        NotFound,
        Overloaded,
        PermissionDenied,
        ReadOnly,
        ResourceExhausted,
        ServerError,
        Timeout,
        Unauthenticated,
        Unavailable,
    )
    from .explanation import DocumentToken, Explanation, QueryToken, Span, Token
    from .rendering import explanations_html, explanations_svg
    from .results import (
        CollectionInfo,
        DeleteResult,
        Document,
        Embeddings,
        FacetValue,
        Hit,
        ModelStatistics,
        RerankResult,
        SearchResult,
        ServerInfo,
        UpdateResult,
        UpsertResult,
    )
    from .search_options import Filters, SearchOptions
    from .tls import TLS

__all__ = [
    "TLS",
    "AlreadyExists",
    "AsyncClient",
    "Client",
    "ClientError",
    "CodecName",
    "CollectionInfo",
    "DeleteResult",
    "Document",
    "DocumentToken",
    "Embeddings",
    "Explanation",
    "FacetValue",
    "Filters",
    "Hit",
    "IfExistsName",
    "InvalidArgument",
    "LongDocumentsName",
    "ModelStatistics",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
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
    "Unauthenticated",
    "Unavailable",
    "UpdateResult",
    "UpsertResult",
    "explanations_html",
    "explanations_svg",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "_async.client": ["AsyncClient"],
            "_sync.client": ["Client"],
            "errors": [
                "AlreadyExists",
                "ClientError",
                "InvalidArgument",
                "NotFound",
                "Overloaded",
                "PermissionDenied",
                "ReadOnly",
                "ResourceExhausted",
                "ServerError",
                "Timeout",
                "Unauthenticated",
                "Unavailable",
            ],
            "explanation": ["DocumentToken", "Explanation", "QueryToken", "Span", "Token"],
            "rendering": ["explanations_html", "explanations_svg"],
            "results": [
                "CollectionInfo",
                "DeleteResult",
                "Document",
                "Embeddings",
                "FacetValue",
                "Hit",
                "ModelStatistics",
                "RerankResult",
                "SearchResult",
                "ServerInfo",
                "UpdateResult",
                "UpsertResult",
            ],
            "search_options": ["Filters", "SearchOptions"],
            "tls": ["TLS"],
        },
    )
