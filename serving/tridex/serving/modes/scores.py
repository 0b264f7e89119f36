"""MaxSim scores of given documents, and the range of MaxSim scores."""

from __future__ import annotations

from collections.abc import Sequence

from tridex import kernels
from tridex.index import Ranking, Snapshot
from tridex.protocol import models
from tridex.serving.backend.service import invalid

from .mode import Queries


def rescored(snapshot: Snapshot, queries: Queries, candidates: Sequence[Sequence[str]]) -> Sequence[Ranking]:
    """Ranks each query's candidates, given by their ids, by MaxSim."""
    started = [
        snapshot.start_rescoring(embeddings, mask, ids)
        for embeddings, mask, ids in zip(queries.embeddings, queries.mask, candidates, strict=True)
    ]
    return within_float32([ranking() for ranking in started])


def within_float32(rankings: Sequence[Ranking]) -> Sequence[Ranking]:
    """Raises RequestError INVALID_ARGUMENT where a score is beyond float32, which the kernels cut to its largest."""
    # A ranking's largest magnitude is at one of its ends.
    ends = [float(score) for ranking in rankings if ranking.ids for score in (ranking.scores[0], ranking.scores[-1])]
    if any(abs(score) >= kernels.LARGEST_SCORE for score in ends):
        raise invalid(
            f"input {models.QUERY_EMBEDDINGS.name} gives a score beyond {kernels.LARGEST_SCORE:.3g}; expected smaller "
            "numbers"
        )
    return rankings
