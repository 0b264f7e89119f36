"""Limits that the server enforces and the clients respect."""

import re

MAX_BATCH = 64
"""Texts in one request: queries of a search, documents of an encode or upsert."""

MAX_TEXT_BYTES = 256 * 1024
"""UTF-8 bytes of one text. A checkpoint reads a few hundred tokens; a longer text is a mistake, not a document."""

MAX_REQUEST_TEXT_BYTES = 16 * 1024 * 1024
"""UTF-8 bytes of all texts of one request: 64 of the longest."""

MAX_ID_BYTES = 1024
"""UTF-8 bytes of one document id."""

MAX_METADATA_BYTES = 64 * 1024
"""UTF-8 bytes of one document's metadata as JSON."""

MAX_FILTER_BYTES = 256 * 1024
"""UTF-8 bytes of a filter as JSON."""

MAX_PAGE = 256
"""Documents of one page of a scroll."""

MAX_TOP_K = 10_000
"""Hits of one query."""

MAX_HITS = 131_072
"""Hits of all queries of one request."""

MAX_EXPLAINED = 64
"""Hits of all queries of one request that are explained."""

MAX_CANDIDATES = 10_000
"""Documents of one rerank request, and candidates of one query of a search."""

MAX_PROBE = 1024
"""Centroids that one query token probes in a search by candidates."""

MAX_FACET_VALUES = 10_000
"""Values of one facet."""

MAX_IDS = 16_384
"""Ids of one request: documents to get or delete, candidates of all queries."""

MAX_QUERY_TOKENS = 8192
"""Token embeddings of all queries of one request, padding included."""

MAX_QUERY_WORDS = 16_384
"""Words of all queries of one request that reads words; of a query the first 1,024 count."""

MAX_ENCODED_TOKENS = 131_072
"""Tokens that one request has the encoder read to encode or rerank."""

MAX_DOCUMENT_TOKENS = 524_288
"""Tokens of the documents of one upsert, those that windows share counted twice: more than the longest text has."""

MAX_INPUT_BYTES = 32 * 1024 * 1024
"""Bytes of one input tensor."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes of one answer's tensors."""

MAX_PAGE_BYTES = 32 * 1024 * 1024
"""Bytes of one page of a scroll, as JSON; a page with one document may have more."""

MAX_MESSAGE_BYTES = 128 * 1024 * 1024
"""Bytes of one gRPC message, in either direction."""

MAX_POOLING_FACTOR = 64
"""Token embeddings that token pooling makes one of."""

COLLECTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Full match of the name of a collection or alias. It becomes a file name, so it holds no separator or leading dot."""

DEFAULT_TOP_K = 10
DEFAULT_EXPLAINED = 10
DEFAULT_PAGE = 64
DEFAULT_FACET_VALUES = 10
DEFAULT_PROBE = 8
DEFAULT_CANDIDATES = 1000
