"""The range of MaxSim scores."""

from __future__ import annotations

from tridex import kernels
from tridex.index import Ranking
from tridex.protocol import models
from tridex.serving.backend.service import invalid


def within_float32(rankings: list[Ranking]) -> list[Ranking]:
    """Raises RequestError INVALID_ARGUMENT where a score is beyond float32, which the kernels cut to its largest."""
    # A ranking's largest magnitude is at one of its ends.
    ends = [float(score) for ranking in rankings if ranking.ids for score in (ranking.scores[0], ranking.scores[-1])]
    if any(abs(score) >= kernels.LARGEST_SCORE for score in ends):
        raise invalid(
            f"input {models.QUERY_EMBEDDINGS.name} gives a score beyond {kernels.LARGEST_SCORE:.3g}; expected smaller "
            "numbers"
        )
    return rankings
