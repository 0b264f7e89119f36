"""What a search finds, and how two rankings of one query become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RRF_K = 60
"""What reciprocal rank fusion adds to a rank; its authors' value."""


@dataclass(frozen=True)
class Ranking:
    """The best documents of one query, score descending, ties by id."""

    ids: list[str]
    scores: NDArray[np.float32]
    addresses: NDArray[np.uint64]
    """Where each document lies in the store, for reading its text."""

    def first(self, count: int) -> Ranking:
        """The best `count` of these."""
        return Ranking(self.ids[:count], self.scores[:count], self.addresses[:count])


def ranked(hits: list[tuple[float, str, int]]) -> Ranking:
    """A ranking of (score, id, address), in any order."""
    hits.sort(key=lambda hit: (-hit[0], hit[1]))
    return Ranking(
        ids=[key for _, key, _ in hits],
        scores=np.array([score for score, _, _ in hits], np.float32),
        addresses=np.array([address for _, _, address in hits], np.uint64),
    )


def fuse_ranks(one: Ranking, other: Ranking) -> Ranking:
    """Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): the sum over rankings of 1 / (60 + rank).

    Ranks count from 1; a document that a ranking does not hold gets nothing from it.
    """
    return _fused([(ranking, 1 / (RRF_K + 1 + np.arange(len(ranking.ids)))) for ranking in (one, other)])


def fuse_scores(one: Ranking, other: Ranking, weight: float) -> Ranking:
    """weight * one + (1 - weight) * other, each ranking's scores stretched to go from 0 to 1.

    A document that a ranking does not hold gets 0 from it. Scores that are all equal become 1.
    """
    return _fused([(one, weight * _stretched(one.scores)), (other, (1 - weight) * _stretched(other.scores))])


def _stretched(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    if not len(scores):
        return np.empty(0)
    numbers = scores.astype(np.float64)
    low, high = numbers.min(), numbers.max()
    return (numbers - low) / (high - low) if high > low else np.ones(len(numbers))


def _fused(shares: list[tuple[Ranking, NDArray[np.float64]]]) -> Ranking:
    """Ranks documents by the sums of their shares."""
    sums: dict[str, float] = {}
    addresses: dict[str, int] = {}
    for ranking, values in shares:
        for key, address, value in zip(ranking.ids, ranking.addresses.tolist(), values.tolist(), strict=True):
            sums[key] = sums.get(key, 0.0) + value
            addresses[key] = address
    # Rounded first, so that scores which the caller sees as equal are ordered by id.
    return ranked([(float(np.float32(value)), key, addresses[key]) for key, value in sums.items()])
