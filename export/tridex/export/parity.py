"""The gate: the exported encoder, run as it is served, against Sentence Transformers on the same checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import zip_longest
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder

from tridex.encoding import EncodingRules, OnnxEncoder, TokenBatch, Tokenizer

from .errors import ParityError
from .precision import Precision

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
    """Differences between the exported encoder and the checkpoint, over QUERIES x DOCUMENTS."""

    score_error: float
    """Largest difference of a score. Unit token embeddings score at most 1 a query token; where a checkpoint's are
    longer, differences are divided by what they do score."""
    relative_score_error: float
    """Largest difference of a score, as a share of the largest score."""
    token_cosine: float
    """Mean cosine between a token's two embeddings."""

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Worst:
    """The texts that differ most, in words, for each measure of `Parity`."""

    score: str
    relative: str
    token: str


@dataclass(frozen=True)
class Tolerance:
    score_error: float
    relative_score_error: float
    token_cosine: float


TOLERANCES = {
    # The same arithmetic in another order. Seen with MiniLM: 3e-6.
    Precision.FP32: Tolerance(score_error=1e-4, relative_score_error=inf, token_cosine=0.99999),
    # 11 bits: an inner product is off by about 1e-4, a score by that times the query's tokens. Seen with MiniLM: 3e-3.
    Precision.FP16: Tolerance(score_error=1e-2, relative_score_error=inf, token_cosine=0.9999),
    # Seen with MiniLM: 0.03 and 0.9975, and the same nDCG@10 on SciFact to 0.001. Unrelated embeddings have cosine 0.
    Precision.INT8: Tolerance(score_error=inf, relative_score_error=0.1, token_cosine=0.99),
}
_ADVICE = {
    Precision.FP32: "No precision is closer than fp32; see whether the checkpoint lacks a weight, which is then random",
    Precision.FP16: "Export it with precision fp32",
    Precision.INT8: "Export it with precision fp32, or fp16 for a GPU",
}


def check_parity(
    reference: MultiVectorEncoder,
    tokenizer: Tokenizer,
    encoder: OnnxEncoder,
    rules: EncodingRules,
    precision: Precision,
) -> Parity:
    """Compares tokens, which must be equal, and then scores and embeddings, within the precision's tolerance.

    `reference` should be loaded anew: a weight that the checkpoint lacks is random in every load, and shows here.

    Raises:
        ParityError: with the figures.
    """
    ours, theirs = [], []
    for task, texts, batch in (
        ("query", QUERIES, tokenizer.queries(QUERIES)),
        ("document", DOCUMENTS, tokenizer.documents(DOCUMENTS)),
    ):
        expected = [encode_reference(reference, task, text) for text in texts]
        for row, (text, encoded) in enumerate(zip(texts, expected, strict=True)):
            _compare_tokens(_named(task, text), batch, row, encoded.tokens, rules.pad_token_id)
        ours.append([rows[mask == 1] for rows, mask in zip(encoder.encode(batch), batch.embedding_mask, strict=True)])
        theirs.append([encoded.embeddings for encoded in expected])
    parity, worst = _differences(ours, theirs, reference.similarity(*theirs).numpy(), rules)
    if exceeded := _exceeded(parity, worst, TOLERANCES[precision]):
        raise ParityError(
            f"the exported {precision.value} encoder differs from the checkpoint: {'; '.join(exceeded)}. "
            f"{_ADVICE[precision]}"
        )
    return parity


def _exceeded(parity: Parity, worst: Worst, limits: Tolerance) -> list[str]:
    """What is outside the tolerance: measure, value, limit and text."""
    checks = (
        ("score error", parity.score_error, "at most", limits.score_error, worst.score),
        ("relative score error", parity.relative_score_error, "at most", limits.relative_score_error, worst.relative),
        ("mean token cosine", parity.token_cosine, "at least", limits.token_cosine, worst.token),
    )
    return [
        f"{name} {told_apart(value, limit)} against {bound} {limit!r} ({where})"
        for name, value, bound, limit, where in checks
        # Not "if outside": NaN is neither.
        if not (value <= limit if bound == "at most" else value >= limit)
    ]


def told_apart(value: float, limit: float) -> str:
    """`value` with two digits, or as many as it takes to be on the side of `limit` where it is."""
    for digits in range(2, 17):
        text = f"{value:.{digits}g}"
        if (float(text) < limit, float(text) > limit) == (value < limit, value > limit):
            return text
    return repr(value)


@dataclass(frozen=True)
class Encoded:
    """What Sentence Transformers makes of one text."""

    tokens: TokenBatch
    """[1, tokens]"""
    embeddings: NDArray[np.float32]
    """[scoring tokens, dim]"""


def encode_reference(reference: MultiVectorEncoder, task: str, text: str) -> Encoded:
    """Encodes by `encode_query` or `encode_document`, and notes what reaches the backbone on the way."""
    seen: dict[str, torch.Tensor] = {}
    hook = reference[0].register_forward_pre_hook(lambda _, arguments: seen.update(arguments[0]))
    try:
        encode = reference.encode_query if task == "query" else reference.encode_document
        features = encode(text, output_value=None)
    finally:
        hook.remove()
    scored = features["attention_mask"].bool()
    ids, attended = seen["input_ids"].numpy(), seen["attention_mask"].numpy()
    tokens = TokenBatch(ids, attended.astype(np.int64), scored[None].numpy().astype(np.int64))
    return Encoded(tokens, features["token_embeddings"][scored].float().numpy())


def maxsim(
    queries: list[NDArray[np.float32]], documents: list[NDArray[np.float32]], rules: EncodingRules
) -> NDArray[np.float64]:
    """Scores [queries, documents]: sum over query tokens of the largest inner product with a document token (ColBERT,
    section 3.3), for "meanmaxsim" divided by the query's tokens."""
    scores = np.array([[(q @ d.T).max(axis=1).sum(dtype=np.float64) for d in documents] for q in queries])
    return scores / _tokens(queries) if rules.similarity == "meanmaxsim" else scores


def _tokens(queries: list[NDArray[np.float32]]) -> NDArray[np.int64]:
    return np.array([[len(q)] for q in queries])


def _differences(
    ours: list[list[NDArray[np.float32]]],
    theirs: list[list[NDArray[np.float32]]],
    expected: NDArray[np.float32],
    rules: EncodingRules,
) -> tuple[Parity, Worst]:
    error = np.abs(maxsim(ours[0], ours[1], rules) - expected)
    scaled = error / np.maximum(1, np.abs(expected) / _tokens(theirs[0]))
    a, b = (np.concatenate([*queries, *documents]) for queries, documents in (ours, theirs))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / np.maximum(norms, 1e-12)
    texts = [*(_named("query", text) for text in QUERIES), *(_named("document", text) for text in DOCUMENTS)]
    text_of = np.repeat(texts, [len(rows) for side in theirs for rows in side])
    # numpy's max, unlike Python's, lets NaN through, and argmax and argmin find it.
    parity = Parity(
        score_error=float(np.max(scaled)),
        relative_score_error=float(np.max(error) / np.max(np.abs(expected))),
        token_cosine=float(np.mean(cosines)),
    )
    lowest = np.argmin(cosines)
    return parity, Worst(_pair(scaled), _pair(error), f"lowest {cosines[lowest]:.6f}, in {text_of[lowest]}")


def _pair(error: NDArray[np.float64]) -> str:
    query, document = divmod(int(np.argmax(error)), error.shape[1])
    return f"{_named('query', QUERIES[query])}, {_named('document', DOCUMENTS[document])}"


def _named(task: str, text: str) -> str:
    return f"{task} {text if len(text) <= 60 else text[:57] + '...'!r}"


def _compare_tokens(text: str, batch: TokenBatch, row: int, expected: TokenBatch, pad_token_id: int) -> None:
    for name, padding in (("input_ids", pad_token_id), ("attention_mask", 0), ("embedding_mask", 0)):
        ours, theirs = getattr(batch, name)[row].tolist(), getattr(expected, name)[0].tolist()
        # Beyond the text's own width there is what fills the batch.
        for token, (got, want) in enumerate(zip_longest(ours, theirs, fillvalue=padding)):
            if got != want:
                raise ParityError(
                    f"{name} of the {text}: {got} at token {token} of {len(theirs)}, Sentence Transformers {want}. No "
                    "precision changes this: the tokenizer or its rules do not do what the checkpoint does"
                )
