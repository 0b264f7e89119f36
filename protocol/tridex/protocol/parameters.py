"""Request parameters: what a request says beside its tensors (KServe v2 "parameters")."""

from enum import Enum

COLLECTION = "collection"
"""str, required by every request that touches the index."""

TOP_K = "top_k"
"""int, hits a query; `limits.DEFAULT_TOP_K` when absent."""

MIN_VERSION = "min_version"
"""int, a search sees at least this store version: read your own writes."""

WITH_TEXT = "with_text"
"""bool, a search returns TEXTS; true when absent."""

WITH_METADATA = "with_metadata"
"""bool, a search returns METADATA; true when absent."""

OPERATION = "operation"
"""str, what an ingest or catalog request does."""

CODEC = "codec"
"""str, how a collection that this upsert creates stores token embeddings."""


class IngestOperation(str, Enum):
    UPSERT = "upsert"
    DELETE = "delete"


class CatalogOperation(str, Enum):
    GET = "get"
    COUNT = "count"
    COLLECTIONS = "collections"
    ENCODER = "encoder"
    """The served checkpoint's manifest."""
