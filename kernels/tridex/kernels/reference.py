"""MaxSim, slow and obviously right: float64, one document at a time. What every other path is tested against.

score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>
"""

from __future__ import annotations

import torch

from .segment import Segment


def score(queries: torch.Tensor, segment: Segment, query_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Scores every document, dead ones included: float64 [batch, documents], -inf for a document without tokens.

    queries: [batch, tokens, dim], rounded to the codec's dtype; query_mask: bool [batch, tokens].
    """
    rounded = queries.cpu().to(segment.codec.dtype).double()
    mask = torch.ones(queries.shape[:2], dtype=torch.bool) if query_mask is None else query_mask.cpu()
    embeddings = segment.codes.cpu().view(segment.codec.dtype).double()
    offsets = segment.offsets.tolist()
    scores = torch.full((len(queries), segment.documents), float("-inf"), dtype=torch.float64)
    for row in range(segment.documents):
        document = embeddings[offsets[row] : offsets[row + 1]]
        if len(document):
            for i, query in enumerate(rounded):
                scores[i, row] = (query[mask[i]] @ document.T).amax(dim=1).sum()
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
            if 0 <= row < segment.documents and is_live(segment, row):
                scores[i, c] = every[i, row]
    return scores


def is_live(segment: Segment, row: int) -> bool:
    """Whether the segment's bitmap has the row's bit."""
    return bool(int(segment.live[row // 32]) >> (row % 32) & 1)
