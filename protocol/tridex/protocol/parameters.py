"""Request parameters: what a request carries beside its tensors (KServe v2 "parameters").

The `...Name` types list the values that a str parameter may have, for type checkers and the command line; tests compare
them with the enumerations that the server reads.
"""

from enum import Enum
from typing import Literal, TypeAlias, get_args

COLLECTION = "collection"
"""str, a collection or an alias of one; required by every request that touches the index."""

TOP_K = "top_k"
"""int, hits a query; `limits.DEFAULT_TOP_K` when absent."""

OFFSET = "offset"
"""int, hits of each query to leave out, the best ones; 0 when absent. With `top_k` at most `limits.MAX_TOP_K`."""

MIN_SCORE = "min_score"
"""str, a decimal number: hits with a lower score are left out, after `normalize`."""

NORMALIZE = "normalize"
"""bool, scores from 0 to 1 that mean the same for short and long queries; false when absent. MaxSim is divided by the
query's tokens, a fused score by the best that there can be. BM25, which has no largest score, refuses it."""

MIN_VERSION = "min_version"
"""int, a search sees at least this store version, and waits until it is in device memory, at most for the request's
timeout; refused where the store has not reached it."""

LAST_WRITE = "last_write"
"""int, the version of the caller's last write under this name: a search sees it, unless the name leads to another
collection since. Read your own writes."""

FILTERS = "filters"
"""str, conditions on metadata as JSON: limits a search, rerank of ids, count, scroll or delete to the documents that
match."""

MODE = "mode"
"""str, what ranks the documents of a search (SearchModeName); `DEFAULT_MODE` when absent."""

EXACT = "exact"
"""bool, MaxSim scores every document; true when absent. False: only the candidates of the centroids' inverted lists."""

N_PROBE = "n_probe"
"""int, centroids that a query token probes where `exact` is false; `limits.DEFAULT_PROBE` when absent."""

N_CANDIDATES = "n_candidates"
"""int, documents that the first stage hands on: to exact scores in mode `rerank` and where `exact` is false, to the
fusion in mode `hybrid`. At least `top_k`; the larger of that and `limits.DEFAULT_CANDIDATES` when absent."""

MAXSIM_WEIGHT = "maxsim_weight"
"""str, a decimal number w from 0 to 1: mode `hybrid` ranks by w times MaxSim's and (1 - w) times BM25's min-max
normalised scores. When absent, it fuses the two rankings by reciprocal rank."""

WITH_TEXT = "with_text"
"""bool, a search returns TEXTS; true when absent."""

WITH_METADATA = "with_metadata"
"""bool, a search returns METADATA; true when absent."""

EXPLAIN = "explain"
"""int, how many of the best hits of each query a search explains, in EXPLANATIONS; 0 when absent."""

EXPLAIN_MATRIX = "explain_matrix"
"""bool, explanations hold every similarity, not only the largest ones; false when absent."""

OPERATION = "operation"
"""str, what an ingest or catalog request does."""

CODEC = "codec"
"""str, how a collection that this request creates stores token embeddings (CodecName)."""

DOCUMENT_LENGTH = "document_length"
"""int, most tokens that the encoder reads at once of a new collection's documents; the checkpoint's own when absent."""

LONG_DOCUMENTS = "long_documents"
"""str, what becomes of longer documents in a new collection (LongDocuments); windows when absent."""

POOLING_FACTOR = "pooling_factor"
"""int, a new collection keeps one token embedding for this many; 1 when absent."""

FIELDS = "fields"
"""str, a JSON object of types by name: the metadata fields that a new collection declares, which infers them from its
first documents when this is absent; or fields that get a type, and null for those that are to be none."""

FIELD = "field"
"""str, the metadata field that a facet or min_max is about."""

IF_EXISTS = "if_exists"
"""str, what an upsert does with documents whose ids are there already (IfExists); overwrite when absent."""

LIMIT = "limit"
"""int, values of a facet at most; `limits.DEFAULT_FACET_VALUES` when absent."""

WITH_EMBEDDINGS = "with_embeddings"
"""bool, a get returns EMBEDDINGS; false when absent."""

ALIAS = "alias"
"""str, the alias that an ingest request sets or drops."""

PAGE = "page"
"""int, documents that a scroll returns at most; `limits.DEFAULT_PAGE` when absent."""


SearchModeName: TypeAlias = Literal[
    "maxsim",  # late interaction: token embeddings against token embeddings
    "bm25",  # words against words
    "rerank",  # MaxSim, of the best documents by BM25
    "hybrid",  # the rankings by MaxSim and by BM25, fused
]
"""The table of search modes. Each is a file in serving/modes."""

SEARCH_MODES: tuple[SearchModeName, ...] = get_args(SearchModeName)

DEFAULT_MODE: SearchModeName = "maxsim"

CodecName: TypeAlias = Literal["float32", "float16", "bfloat16", "float8_e4m3", "int8", "residual4", "residual2"]


class IngestOperation(str, Enum):
    UPSERT = "upsert"
    DELETE = "delete"
    """By ids, or by filters without ids."""
    CLEAR = "clear"
    """Deletes every document."""
    UPDATE_METADATA = "update_metadata"
    """By ids, or by filters without ids: keys of METADATA replace those of the documents, null removes a key."""
    CHANGE_FIELDS = "change_fields"
    """Makes fields of stored metadata, gives fields another type, or lets them go."""
    CREATE = "create"
    DROP = "drop"
    SET_ALIAS = "set_alias"
    DROP_ALIAS = "drop_alias"
    COMPACT = "compact"
    """Rewrites a collection's small and half deleted files; the old ones go a minute later."""


class IfExists(str, Enum):
    OVERWRITE = "overwrite"
    """They replace the stored ones."""
    SKIP = "skip"
    """The stored ones stay; the new ones are not encoded."""
    FAIL = "fail"
    """The request is refused as ALREADY_EXISTS, and none of its documents is written."""


IfExistsName: TypeAlias = Literal["overwrite", "skip", "fail"]


class LongDocuments(str, Enum):
    WINDOWS = "windows"
    """Read in overlapping windows and scored as one document: each query token takes its best over all of them."""
    TRUNCATE = "truncate"
    """Cut, as the checkpoint cuts them."""


LongDocumentsName: TypeAlias = Literal["windows", "truncate"]


class CatalogOperation(str, Enum):
    GET = "get"
    COUNT = "count"
    SCROLL = "scroll"
    """Documents in the order of ids, after the id given."""
    FACET = "facet"
    """The most frequent values of a field."""
    MIN_MAX = "min_max"
    """The smallest and the largest value of a field."""
    COLLECTION = "collection"
    COLLECTIONS = "collections"
    ALIASES = "aliases"
    ENCODER = "encoder"
    """The served checkpoint's manifest."""
