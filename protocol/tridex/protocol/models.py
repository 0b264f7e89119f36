"""Every model of the repository: names, tensors, batch sizes, and how the ensembles chain them.

config.pbtxt is rendered from here, the Python models and the client read their tensor names here.
"""

from __future__ import annotations

from .limits import MAX_BATCH
from .tensors import DType, Ensemble, Model, Step, Tensor

# Text in. The name of the tensor says which of the checkpoint's two ways of encoding applies.
QUERY = Tensor("QUERY", DType.STRING, (1,))
DOCUMENT = Tensor("DOCUMENT", DType.STRING, (1,))

# Between tokenizer and encoder, each [batch, tokens].
INPUT_IDS = Tensor("INPUT_IDS", DType.INT64, (-1,))
ATTENTION_MASK = Tensor("ATTENTION_MASK", DType.INT64, (-1,))
EMBEDDING_MASK = Tensor("EMBEDDING_MASK", DType.INT64, (-1,))
"""1 where a token yields an embedding that takes part in MaxSim. Not the attention mask: expansion tokens may score
without being attended to, and skipped words are attended to without scoring."""

EMBEDDINGS = Tensor("EMBEDDINGS", DType.FP32, (-1, -1))
"""[batch, tokens, dim], L2-normalised, zero where EMBEDDING_MASK is 0."""

# Search.
QUERY_EMBEDDINGS = Tensor("QUERY_EMBEDDINGS", DType.FP32, (-1, -1), optional=True)
"""Not of a search by BM25 alone."""
QUERY_MASK = Tensor("QUERY_MASK", DType.INT64, (-1,), optional=True)
CANDIDATE_IDS = Tensor("CANDIDATE_IDS", DType.STRING, (-1,), optional=True)
"""[batch, candidates]: score these documents only."""
IDS = Tensor("IDS", DType.STRING, (-1,))
"""[batch, hits], best first; behind a query's last hit, where another of the request has more, empty strings."""
SCORES = Tensor("SCORES", DType.FP32, (-1,))
TEXTS = Tensor("TEXTS", DType.STRING, (-1,))
METADATA = Tensor("METADATA", DType.STRING, (-1,))
"""One JSON object a hit, as text."""
VERSION = Tensor("VERSION", DType.INT64, (1,))
"""The store version that a search saw, or that a write made; 0 where nothing has a version."""
HITS = (IDS, SCORES, TEXTS, METADATA, VERSION)

# Rerank of given texts: scores in the order of the texts.
RERANK_TEXTS = Tensor("DOCUMENTS", DType.STRING, (-1,))

# Ingest, one document a row.
DOCUMENT_ID = Tensor("ID", DType.STRING, (-1,))
"""[documents, 1]; [1, 0] for an operation without documents: Triton server refuses a request without any input."""
DOCUMENT_TEXT = Tensor("TEXT", DType.STRING, (1,), optional=True)
DOCUMENT_METADATA = Tensor("METADATA", DType.STRING, (1,), optional=True)

# Catalog: what the store holds, one JSON object a row.
CATALOG_IDS = Tensor("IDS", DType.STRING, (-1,))
"""Of no length where an operation takes no ids: Triton server refuses a request without any input."""
CATALOG_ROWS = Tensor("ROWS", DType.STRING, (-1,))


def _optional(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.dtype, tensor.shape, optional=True)


TOKENIZER = Model(
    "tokenizer",
    inputs=(_optional(QUERY), _optional(DOCUMENT)),
    outputs=(INPUT_IDS, ATTENTION_MASK, EMBEDDING_MASK),
    max_batch_size=MAX_BATCH,
    cpu_only=True,
)

# The one model that differs by runtime; the repository's configs/ hold the variants.
ENCODER = Model(
    "encoder",
    inputs=(INPUT_IDS, ATTENTION_MASK, EMBEDDING_MASK),
    outputs=(EMBEDDINGS,),
    max_batch_size=MAX_BATCH,
    backend="onnxruntime",
    ragged=False,
)

MAXSIM = Model(
    "maxsim",
    # The text is for BM25.
    inputs=(QUERY_EMBEDDINGS, QUERY_MASK, _optional(QUERY), CANDIDATE_IDS),
    outputs=HITS,
    max_batch_size=MAX_BATCH,
)

RERANK = Model("rerank", inputs=(QUERY, RERANK_TEXTS), outputs=(SCORES,), max_batch_size=1)

INGEST = Model(
    "ingest",
    inputs=(DOCUMENT_ID, DOCUMENT_TEXT, DOCUMENT_METADATA),
    outputs=(VERSION,),
    max_batch_size=MAX_BATCH,
    cpu_only=True,
)

CATALOG = Model("catalog", inputs=(CATALOG_IDS,), outputs=(CATALOG_ROWS,), max_batch_size=1, cpu_only=True)


def _tokens_of(text: Tensor) -> Step:
    return Step(
        TOKENIZER,
        input_map={text.name: text.name},
        output_map={t.name: t.name.lower() for t in TOKENIZER.outputs},
    )


def _embeddings_as(name: str) -> Step:
    return Step(
        ENCODER,
        input_map={t.name: t.name.lower() for t in ENCODER.inputs},
        output_map={EMBEDDINGS.name: name},
    )


def _encode(name: str, text: Tensor) -> Ensemble:
    tokens = _tokens_of(text)
    tokens.output_map[EMBEDDING_MASK.name] = EMBEDDING_MASK.name
    embeddings = _embeddings_as(EMBEDDINGS.name)
    embeddings.input_map[EMBEDDING_MASK.name] = EMBEDDING_MASK.name
    return Ensemble(name, (text,), (EMBEDDINGS, EMBEDDING_MASK), MAX_BATCH, (tokens, embeddings))


ENCODE_QUERY = _encode("encode_query", QUERY)
ENCODE_DOCUMENT = _encode("encode_document", DOCUMENT)

SEARCH = Ensemble(
    "search",
    inputs=(QUERY, CANDIDATE_IDS),
    outputs=HITS,
    max_batch_size=MAX_BATCH,
    steps=(
        _tokens_of(QUERY),
        _embeddings_as("embeddings"),
        Step(
            MAXSIM,
            input_map={
                QUERY_EMBEDDINGS.name: "embeddings",
                QUERY_MASK.name: EMBEDDING_MASK.name.lower(),
                QUERY.name: QUERY.name,
                CANDIDATE_IDS.name: CANDIDATE_IDS.name,
            },
            output_map={t.name: t.name for t in HITS},
        ),
    ),
)

MODELS: tuple[Model, ...] = (TOKENIZER, ENCODER, MAXSIM, RERANK, INGEST, CATALOG)
ENSEMBLES: tuple[Ensemble, ...] = (ENCODE_QUERY, ENCODE_DOCUMENT, SEARCH)
