"""MaxSim, slow and obviously right: float64, one document at a time. What every backend is tested against.

score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

from .codecs import DESCRIPTIONS, decode_columns
from .scaling import scale_tokens
from .segment import Segment


def similarities(queries: torch.Tensor, segment: Segment) -> torch.Tensor:
    """<Q_i, D_j> of every query token and every document token.

    Args:
        queries: [batch, query tokens, dim]; they are scaled and rounded as the codec does.
        segment: On any device.

    Returns:
        float64 [batch, query tokens, segment.tokens].
    """
    every = torch.ones(queries.shape[:2], dtype=torch.bool)
    tokens, _, units = scale_tokens(queries.cpu(), every)
    rounded = DESCRIPTIONS[segment.codec].round_queries(tokens)
    numbers = rounded.numbers.double() / DESCRIPTIONS[segment.codec].unit
    if rounded.scales is not None:
        numbers = numbers * rounded.scales.double()[..., None]
    decoded = decode_columns(segment.codec, segment.columns, segment.codebook, torch.float64).cpu()
    return numbers @ decoded.T * units.mT


def score(queries: torch.Tensor, segment: Segment, query_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Scores every document, deleted ones included.

    Args:
        queries: [batch, query tokens, dim].
        segment: On any device.
        query_mask: bool [batch, query tokens]; all count where None.

    Returns:
        float64 [batch, documents], -inf for a document without tokens.
    """
    mask = torch.ones(queries.shape[:2], dtype=torch.bool) if query_mask is None else query_mask.cpu()
    scores = torch.full((len(queries), segment.documents), float("-inf"), dtype=torch.float64)
    for row, document in enumerate(_documents(similarities(queries, segment), segment)):
        if document.shape[2]:
            scores[:, row] = document.amax(dim=2).where(mask, 0).sum(dim=1)
    return scores


def search(
    queries: torch.Tensor, segment: Segment, top_k: int, query_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What tridex.kernels.search returns, with float64 scores."""
    scores = torch.full((len(queries), top_k), float("-inf"), dtype=torch.float64)
    rows = torch.full((len(queries), top_k), -1)
    for i, query_scores in enumerate(score(queries, segment, query_mask).tolist()):
        ranked = sorted((-value, row) for row, value in enumerate(query_scores) if is_live(segment, row))
        for place, (negated, row) in enumerate(ranked[:top_k]):
            if negated != float("inf"):
                scores[i, place] = -negated
                rows[i, place] = row
    return scores, rows


def rescore(
    queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """What tridex.kernels.rescore returns, in float64."""
    every = score(queries, segment, query_mask)
    scores = torch.full(rows.shape, float("-inf"), dtype=torch.float64)
    for i, query_rows in enumerate(rows.tolist()):
        for c, row in enumerate(query_rows):
            if is_live(segment, row):
                scores[i, c] = every[i, row]
    return scores


def explain(
    queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What tridex.kernels.explain returns, with float64 similarities."""
    documents = list(_documents(similarities(queries, segment), segment))
    mask = torch.ones(queries.shape[:2], dtype=torch.bool) if query_mask is None else query_mask.cpu()
    tokens = torch.full((*rows.shape, queries.shape[1]), -1)
    best = torch.full(tokens.shape, float("-inf"), dtype=torch.float64)
    best.masked_fill_(~mask[:, None], 0)
    for i, query_rows in enumerate(rows.tolist()):
        for c, row in enumerate(query_rows):
            if is_live(segment, row) and documents[row].shape[2]:
                maxima, places = documents[row][i].max(dim=1)
                tokens[i, c] = places.where(mask[i], -1)
                best[i, c] = maxima.where(mask[i], 0)
    return tokens, best


def is_live(segment: Segment, row: int) -> bool:
    """Whether the segment has the row, and the bitmap its bit."""
    return 0 <= row < segment.documents and bool(int(segment.live[row // 32]) >> (row % 32) & 1)


def _documents(every: torch.Tensor, segment: Segment) -> Iterator[torch.Tensor]:
    """The similarities of each document's own tokens: [batch, query tokens, document's tokens]."""
    for start, end in pairwise(segment.offsets.tolist()):
        yield every[:, :, start:end]
