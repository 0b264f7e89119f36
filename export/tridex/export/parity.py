"""The gate: the exported encoder, run as it is served, against Sentence Transformers on the same checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder

from tridex.encoding import Encoder, EncodingRules, TokenBatch, Tokenizer
from tridex.encoding.parity import DOCUMENTS, QUERIES, Parity, cosines, differences, maxsim

from .blind_tokens import blind_tokens, local_reach
from .checkpoint import backbone_of
from .errors import ParityError
from .measure import Measure
from .precision import Precision


@dataclass(frozen=True)
class Tolerance:
    score_error: float
    relative_score_error: float
    token_cosine: float


TOLERANCES = {
    # The same arithmetic in another order. With MiniLM: 3e-6.
    Precision.FP32: Tolerance(score_error=1e-4, relative_score_error=inf, token_cosine=0.99999),
    # 11 bits: an inner product is off by about 1e-4, a score by that times the query's tokens. With MiniLM: 3e-3.
    Precision.FP16: Tolerance(score_error=1e-2, relative_score_error=inf, token_cosine=0.9999),
    # With MiniLM: 0.03 and 0.9975, and the same nDCG@10 on SciFact to 0.001. Unrelated embeddings have cosine 0.
    Precision.INT8: Tolerance(score_error=inf, relative_score_error=0.1, token_cosine=0.99),
}

_REMEDIES = {
    Precision.FP32: "Weights that the checkpoint lacks are random in every load, which loaders warn of; if it has them "
    "all, report this with its config.json",
    Precision.FP16: "Export with precision fp32, or int8 for a CPU",
    Precision.INT8: "Export with precision fp32, or fp16 for a GPU; and int8 on the kind of CPU that will serve it, "
    "because x86 without VNNI sums with fewer bits",
}

_SHOWN, _TOKENS_SHOWN = 60, 8
"""Characters of a text, and tokens, that a message shows."""


def check_parity(
    reference: MultiVectorEncoder,
    tokenizer: Tokenizer,
    encoder: Encoder,
    rules: EncodingRules,
    precision: Precision,
) -> Parity:
    """Compares tokens, which must be equal, and then scores and embeddings, within the precision's tolerance.

    `reference` should be loaded anew: a weight that the checkpoint lacks is random in every load, which shows here.

    Raises:
        ParityError: With the figures, the limits, the texts, and what to do.
    """
    ours, theirs = [], []
    queries, documents = tokenizer.queries(QUERIES), tokenizer.documents(DOCUMENTS)
    for task, texts, batch in (("query", QUERIES, queries), ("document", DOCUMENTS, documents)):
        expected = [encode_reference(reference, task, text) for text in texts]
        for row, (text, encoded) in enumerate(zip(texts, expected, strict=True)):
            _compare_tokens(f"{task} {text[:_SHOWN]!r}", batch, row, encoded.tokens, rules.pad_token_id)
        ours.append([rows[mask == 1] for rows, mask in zip(encoder.encode(batch), batch.embedding_mask, strict=True)])
        theirs.append([encoded.embeddings for encoded in expected])
    scores, expected_scores = maxsim(ours[0], ours[1], rules), reference.similarity(*theirs).numpy()
    parity = differences(ours, theirs, scores, expected_scores)
    limits = TOLERANCES[precision]
    measures = (
        Measure("score error", parity.score_error, "at most", limits.score_error),
        Measure("relative score error", parity.relative_score_error, "at most", limits.relative_score_error),
        Measure("mean token cosine", parity.token_cosine, "at least", limits.token_cosine),
    )
    if beyond := [str(measure) for measure in measures if not measure.holds]:
        # argmax and argmin take NaN for what they look for.
        q, d = divmod(int(np.argmax(np.abs(scores - expected_scores))), len(DOCUMENTS))
        alike = [float(np.mean(cosines(a, b))) for a, b in zip(chain(*ours), chain(*theirs), strict=True)]
        least = int(np.argmin(alike))
        text = (*QUERIES, *DOCUMENTS)[least][:_SHOWN]
        cause = _blindness(queries, q, ours[0][q], theirs[0][q], reference, limits.token_cosine)
        raise ParityError(
            f"the exported {precision.value} encoder differs from the checkpoint: {', '.join(beyond)}. Furthest off is "
            f"query {QUERIES[q]!r} with document {DOCUMENTS[d][:_SHOWN]!r}: {scores[q, d]:.9g}, where the checkpoint "
            f"has {expected_scores[q, d]:.9g}; least alike are the tokens of {text!r}, cosine {alike[least]:.6f}. "
            f"{cause or _REMEDIES[precision]}"
        )
    return parity


def _blindness(
    queries: TokenBatch,
    row: int,
    ours: NDArray[np.float32],
    theirs: NDArray[np.float32],
    reference: MultiVectorEncoder,
    least_cosine: float,
) -> str | None:
    """Names the cause if the tokens that differ are the query's tokens that see no key (blind_tokens.py)."""
    config = backbone_of(reference).model.config
    reach = local_reach(config)
    attention_mask, embedding_mask = queries.attention_mask[row], queries.embedding_mask[row]
    blind = blind_tokens(attention_mask, embedding_mask, reach)
    if not blind.any() or np.mean(cosines(ours[blind], theirs[blind])) >= least_cosine:
        return None
    distance = "" if reach is None else f" within {reach} (local_attention {2 * reach})"
    return (
        f"The cause: {blind.sum()} of this query's {len(blind)} tokens, query expansion, see no key{distance}: "
        f"attention looks at {attention_mask.sum()} tokens. Attention implementations differ there, and the checkpoint "
        f"is loaded with {config._attn_implementation}. Shorten the expansion, or attend to it"
    )


@dataclass(frozen=True)
class Encoded:
    """What Sentence Transformers makes of one text."""

    tokens: TokenBatch
    """[1, tokens]"""
    embeddings: NDArray[np.float32]
    """[scoring tokens, dim]"""


def encode_reference(reference: MultiVectorEncoder, task: str, text: str) -> Encoded:
    """Encodes by `encode_query` or `encode_document`, and records what reaches the backbone."""
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


def _compare_tokens(text: str, batch: TokenBatch, row: int, expected: TokenBatch, pad_token_id: int) -> None:
    width = expected.input_ids.shape[1]
    for name, padding in (("input_ids", pad_token_id), ("attention_mask", 0), ("embedding_mask", 0)):
        got, want = getattr(batch, name)[row], getattr(expected, name)[0]
        # Beyond the text's own width the batch is padded.
        want = np.concatenate([want, np.full(len(got) - width, padding)])
        if differing := np.flatnonzero(got != want).tolist():
            first = differing[0]
            raise ParityError(
                f"{name} of the {text} from token {first} on: {got[first:][:_TOKENS_SHOWN].tolist()}, Sentence "
                f"Transformers {want[first:][:_TOKENS_SHOWN].tolist()}; {len(differing)} of {len(got)} differ. The "
                "served tokenizer does not reproduce this checkpoint's: report this with its tokenizer.json and "
                "tokenizer_config.json"
            )
