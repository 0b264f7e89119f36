"""Every model of the repository: names, tensors, batch sizes, and what the ensembles are made of.

config.pbtxt is rendered from here, the Python models and the client read their tensor names here.
"""

from __future__ import annotations

from .limits import MAX_BATCH
from .tensors import DType, Ensemble, Model, Step, Tensor

# Text in. The tensor's name decides whether it is encoded as a query or as a document.
QUERY = Tensor("QUERY", DType.STRING, (1,))
DOCUMENT = Tensor("DOCUMENT", DType.STRING, (1,))

# What the encoder reads, each [batch, tokens].
INPUT_IDS = Tensor("INPUT_IDS", DType.INT64, (-1,))
ATTENTION_MASK = Tensor("ATTENTION_MASK", DType.INT64, (-1,))
EMBEDDING_MASK = Tensor("EMBEDDING_MASK", DType.INT64, (-1,))
"""1 where a token yields an embedding that takes part in MaxSim. Not the attention mask: expansion tokens may score
without being attended to, and skipped words are attended to without scoring."""

EMBEDDINGS = Tensor("EMBEDDINGS", DType.FP32, (-1, -1))
"""[batch, tokens, dim], L2-normalised, zero where EMBEDDING_MASK is 0."""

# Search.
QUERY_EMBEDDINGS = Tensor("QUERY_EMBEDDINGS", DType.FP32, (-1, -1), optional=True)
"""Not read by BM25."""
QUERY_MASK = Tensor("QUERY_MASK", DType.INT64, (-1,), optional=True)
CANDIDATE_IDS = Tensor("CANDIDATE_IDS", DType.STRING, (-1,), optional=True)
"""[batch, candidates]: score these documents only."""
IDS = Tensor("IDS", DType.STRING, (-1,))
"""[batch, hits], best first; behind a query's last hit, where another of the request has more, empty strings. One empty
string stands for no hit: no answer has a tensor without elements, by which Triton server's classification divides."""
SCORES = Tensor("SCORES", DType.FP32, (-1,))
TEXTS = Tensor("TEXTS", DType.STRING, (-1,))
METADATA = Tensor("METADATA", DType.STRING, (-1,))
"""One JSON object a hit, as text."""
VERSION = Tensor("VERSION", DType.INT64, (1,))
"""The store version that a search saw, or that a write made; 0 where nothing has a version."""
HITS = (IDS, SCORES, TEXTS, METADATA, VERSION)
EXPLANATIONS = Tensor("EXPLANATIONS", DType.STRING, (-1,))
"""[batch, hits]: one JSON object for each hit that is explained (parameter `explain`), else an empty string."""

# Rerank of given texts: scores in the order of the texts.
RERANK_TEXTS = Tensor("DOCUMENTS", DType.STRING, (-1,))

# A query that is not searched for, by the ensemble that asks.
QUERY_TO_ENCODE = Tensor("QUERY_TO_ENCODE", DType.STRING, (1,), optional=True)
QUERY_TO_RERANK = Tensor("QUERY_TO_RERANK", DType.STRING, (1,), optional=True)

# Ingest, one document a row.
DOCUMENT_ID = Tensor("ID", DType.STRING, (-1,))
"""[documents, 1]; [1, 0] for an operation without documents: Triton server refuses a request without any input."""
DOCUMENT_TEXT = Tensor("TEXT", DType.STRING, (1,), optional=True)
DOCUMENT_METADATA = Tensor("METADATA", DType.STRING, (1,), optional=True)

ADDED = Tensor("ADDED", DType.INT64, (1,))
"""Documents that an upsert added, by the row that brought them: 0 or 1."""
REPLACED = Tensor("REPLACED", DType.INT64, (1,))
"""Documents that a write changed: replaced by an upsert, 0 or 1 for each row, or with metadata updated."""
DELETED = Tensor("DELETED", DType.INT64, (1,))
"""Documents that a delete removed, 0 or 1 for each id; in one row for a delete by filters, and for clear."""

# Catalog: what the store holds, one JSON object a row.
CATALOG_IDS = Tensor("IDS", DType.STRING, (-1,))
"""Of no length where an operation takes no ids: Triton server refuses a request without any input."""
CATALOG_ROWS = Tensor("ROWS", DType.STRING, (-1,))
"""One empty string stands for no row."""
CATALOG_EMBEDDINGS = Tensor("EMBEDDINGS", DType.FP32, (-1, -1))
"""[1, tokens, dim]: the documents' token embeddings one after the other, as the codec kept them. A row's `tokens` says
how many are its own. Without any, one of zeros."""


def _optional(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.dtype, tensor.shape, optional=True)


# For the server's own models: tokens in. Clients cannot reach it (tridex.serving.server.guard). It differs by runtime;
# the repository's configs/ hold the variants.
ENCODER = Model(
    "encoder",
    inputs=(INPUT_IDS, ATTENTION_MASK, EMBEDDING_MASK),
    outputs=(EMBEDDINGS,),
    max_batch_size=MAX_BATCH,
    backend="onnxruntime",
    ragged=False,
    internal=True,
)

# All that a query needs, in one process: tokenising, encoding, MaxSim and BM25. What a request asks for follows from
# the inputs that it has; the ensembles below are other names for it.
SEARCH = Model(
    "search",
    inputs=(
        _optional(QUERY),
        QUERY_EMBEDDINGS,
        QUERY_MASK,
        CANDIDATE_IDS,
        QUERY_TO_ENCODE,
        _optional(DOCUMENT),
        QUERY_TO_RERANK,
        _optional(RERANK_TEXTS),
    ),
    outputs=(*HITS, EXPLANATIONS, EMBEDDINGS, EMBEDDING_MASK),
    max_batch_size=MAX_BATCH,
)

INGEST = Model(
    "ingest",
    inputs=(DOCUMENT_ID, DOCUMENT_TEXT, DOCUMENT_METADATA),
    outputs=(VERSION, ADDED, REPLACED, DELETED),
    max_batch_size=MAX_BATCH,
    cpu_only=True,
)

CATALOG = Model(
    "catalog",
    inputs=(CATALOG_IDS,),
    outputs=(CATALOG_ROWS, CATALOG_EMBEDDINGS),
    max_batch_size=1,
    cpu_only=True,
)


def _of_search(name: str, inputs: dict[Tensor, Tensor], outputs: tuple[Tensor, ...], max_batch_size: int) -> Ensemble:
    """Another name for `search`: its own inputs, each by the name that `search` has for it."""
    step = Step(
        SEARCH,
        input_map={inner.name: own.name for own, inner in inputs.items()},
        output_map={tensor.name: tensor.name for tensor in outputs},
    )
    return Ensemble(name, tuple(inputs), outputs, max_batch_size, (step,))


ENCODE_QUERY = _of_search("encode_query", {QUERY: QUERY_TO_ENCODE}, (EMBEDDINGS, EMBEDDING_MASK), MAX_BATCH)
ENCODE_DOCUMENT = _of_search("encode_document", {DOCUMENT: DOCUMENT}, (EMBEDDINGS, EMBEDDING_MASK), MAX_BATCH)
RERANK = _of_search("rerank", {QUERY: QUERY_TO_RERANK, RERANK_TEXTS: RERANK_TEXTS}, (SCORES,), 1)
MAXSIM = _of_search(
    "maxsim",
    {tensor: tensor for tensor in (QUERY_EMBEDDINGS, QUERY_MASK, _optional(QUERY), CANDIDATE_IDS)},
    HITS,
    MAX_BATCH,
)

MODELS: tuple[Model, ...] = (SEARCH, ENCODER, INGEST, CATALOG)
INTERNAL = frozenset(model.name for model in MODELS if model.internal)
"""Called by other models alone, for requests that these have admitted."""
ENSEMBLES: tuple[Ensemble, ...] = (ENCODE_QUERY, ENCODE_DOCUMENT, RERANK, MAXSIM)
