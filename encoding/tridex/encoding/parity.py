"""How far one encoder's embeddings are from another's of the same checkpoint: over QUERIES and DOCUMENTS, as scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from .artifact import Artifact
from .encoder import Encoder
from .errors import ProviderError
from .rules import EncodingRules

QUERIES = (
    "late interaction",
    "What is the capital of France?",
    "crème brûlée recipe, naïve façade",
    "東京 の 天気",
    "How do I remove a directory and everything in it, on a machine where I may not install anything?",
    "(x + y) ** 2 == x**2 + 2*x*y + y**2",
    "COVID-19 vaccine efficacy against the B.1.617.2 (Delta) variant in adults aged 65 and over",
    "a",
)
DOCUMENTS = (
    "Paris.",
    "Paris is the capital and largest city of France, on the river Seine.",
    "Berlin is the capital of Germany. It has about 3.7 million inhabitants!",
    "shutil.rmtree(path, ignore_errors=False) deletes an entire directory tree; path must point to a directory.",
    "Crème brûlée: a custard base, topped with a layer of hardened caramelised sugar.",
    "東京は日本の首都である。 Токио — столица Японии.",
    "Late interaction keeps one embedding a token. A query's score for a document is the sum, over the query's tokens, "
    "of the largest inner product with any of the document's tokens; so documents can be encoded ahead of time. ",
    # Longer than most checkpoints read.
    "The binomial theorem expands powers of a sum, and Pascal's triangle holds its coefficients, row by row. " * 40,
)


@dataclass(frozen=True)
class Parity:
    """Differences between an encoder and its reference, over QUERIES x DOCUMENTS."""

    score_error: float
    """Largest difference of a score. Unit token embeddings score at most 1 per query token; where a checkpoint's are
    longer, differences are divided by their actual scores."""
    relative_score_error: float
    """Largest difference of a score, as a share of the largest score."""
    token_cosine: float
    """Mean cosine between a token's two embeddings."""

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


_MOST_SCORE_ERROR = 1e-2
_LEAST_TOKEN_COSINE = 0.9999
"""As for an export in float16 (tridex.export.parity): a GPU multiplies float32 with 11 bits, too."""


def check_against_the_cpu(encoder: Encoder, reference: Encoder, artifact: Artifact, provider: str) -> Parity:
    """Compares what a provider computes with the same graph on the CPU.

    Raises:
        ProviderError: With the figures and the limits.
    """
    tokenizer = artifact.tokenizer()
    batches = [tokenizer.queries(QUERIES), tokenizer.documents(DOCUMENTS)]
    ours, theirs = (
        [
            [rows[mask == 1] for rows, mask in zip(one.encode(batch), batch.embedding_mask, strict=True)]
            for batch in batches
        ]
        for one in (encoder, reference)
    )
    scores, expected = (maxsim(some[0], some[1], artifact.manifest.rules) for some in (ours, theirs))
    parity = differences(ours, theirs, scores, expected)
    # Not the reverse, which holds for NaN.
    if not (parity.score_error <= _MOST_SCORE_ERROR and parity.token_cosine >= _LEAST_TOKEN_COSINE):
        raise ProviderError(
            f"{provider} computes other embeddings than the CPU: score error {parity.score_error:.3g}, expected at "
            f"most {_MOST_SCORE_ERROR}; mean token cosine {parity.token_cosine:.6f}, expected at least "
            f"{_LEAST_TOKEN_COSINE}",
            "serve without --tensorrt, or install another version of it",
        )
    return parity


def maxsim(
    queries: list[NDArray[np.float32]], documents: list[NDArray[np.float32]], rules: EncodingRules
) -> NDArray[np.float64]:
    """Scores [queries, documents]: sum over query tokens of the largest inner product with a document token (ColBERT,
    section 3.3), for "meanmaxsim" divided by the query's tokens."""
    scores = np.array([[(q @ d.T).max(axis=1).sum(dtype=np.float64) for d in documents] for q in queries])
    return scores / token_counts(queries) if rules.similarity == "meanmaxsim" else scores


def token_counts(queries: list[NDArray[np.float32]]) -> NDArray[np.int64]:
    """int64 [queries, 1]."""
    return np.array([[len(q)] for q in queries])


def differences(
    ours: list[list[NDArray[np.float32]]],
    theirs: list[list[NDArray[np.float32]]],
    scores: NDArray[np.float64],
    expected: NDArray[np.float32] | NDArray[np.float64],
) -> Parity:
    """Of embeddings, [tokens, dim] each, of queries and of documents, and of their scores [queries, documents]."""
    error = np.abs(scores - expected)
    a, b = (np.concatenate([*queries, *documents]) for queries, documents in (ours, theirs))
    # numpy's max, unlike Python's, lets NaN through.
    return Parity(
        score_error=float(np.max(error / np.maximum(1, np.abs(expected) / token_counts(theirs[0])))),
        relative_score_error=float(np.max(error) / np.max(np.abs(expected))),
        token_cosine=float(np.mean(cosines(a, b))),
    )


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of rows, [tokens]."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float32] = (a * b).sum(axis=1) / np.maximum(norms, 1e-12)
    return found
