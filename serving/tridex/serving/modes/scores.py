"""MaxSim scores of given documents, and the range of MaxSim scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tridex import kernels
from tridex.index import Ranking, Snapshot
from tridex.protocol import models
from tridex.serving.backend.service import invalid

from .mode import Queries


def rescored(snapshot: Snapshot, queries: Queries, candidates: Sequence[Sequence[str]]) -> Sequence[Ranking]:
    """Ranks each query's candidates, given by their ids, by MaxSim."""
    return within_float32(
        [
            snapshot.rescore(embeddings, mask, ids)
            for embeddings, mask, ids in zip(queries.embeddings, queries.mask, candidates, strict=True)
        ]
    )


def within_float32(rankings: Sequence[Ranking]) -> Sequence[Ranking]:
    """Raises RequestError INVALID_ARGUMENT where a score is beyond float32, which the kernels cut to its largest."""
    if any(np.abs(ranking.scores).max(initial=0) >= kernels.LARGEST_SCORE for ranking in rankings):
        raise invalid(
            f"input {models.QUERY_EMBEDDINGS.name} gives a score beyond {kernels.LARGEST_SCORE:.3g}; expected smaller "
            "numbers"
        )
    return rankings
