"""What a search finds, and how two rankings of one query become one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RRF_K = 60
"""What reciprocal rank fusion adds to a rank: the value of its authors."""


@dataclass(frozen=True)
class Ranking:
    """The best documents of one query, score descending, ties by id.

    Attributes:
        ids: The documents' ids.
        scores: float32 [documents].
        addresses: uint64 [documents]: where each document is in the store, for reading its text.
    """

    ids: list[str]
    scores: NDArray[np.float32]
    addresses: NDArray[np.uint64]

    def first(self, count: int) -> Ranking:
        """The best `count` of these."""
        if count >= len(self.ids):
            return self
        return Ranking(self.ids[:count], self.scores[:count], self.addresses[:count])

    def after(self, count: int) -> Ranking:
        """All but the best `count` of these."""
        return Ranking(self.ids[count:], self.scores[count:], self.addresses[count:])

    def at_least(self, score: float) -> Ranking:
        """Those with that score or a larger one."""
        return self.first(int((self.scores >= np.float32(score)).sum()))

    def hits(self) -> Iterator[tuple[float, str, int]]:
        """Score, id and address of each document."""
        return zip(self.scores.tolist(), self.ids, self.addresses.tolist(), strict=True)


def ranked(hits: list[tuple[float, str, int]]) -> Ranking:
    """The ranking of hits (score, id, address) in any order, which it sorts."""
    hits.sort(key=lambda hit: (-hit[0], hit[1]))
    return Ranking(
        ids=[key for _, key, _ in hits],
        scores=np.array([score for score, _, _ in hits], np.float32),
        addresses=np.array([address for _, _, address in hits], np.uint64),
    )


def fuse_ranks(one: Ranking, other: Ranking) -> Ranking:
    """Reciprocal rank fusion: a document's score is the sum over rankings of 1 / (60 + rank).

    Ranks count from 1; a ranking without the document adds nothing.

    References:
        Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning
        methods".
    """
    return _fused([(ranking, 1 / (RRF_K + 1 + np.arange(len(ranking.ids)))) for ranking in (one, other)])


def fuse_scores(one: Ranking, other: Ranking, weight: float) -> Ranking:
    """Weighted sum of scores: weight * one + (1 - weight) * other, each ranking's scores min-max normalised.

    A ranking without the document adds 0. Scores that are all equal become 1.

    Args:
        weight: 0 to 1.
    """
    return _fused([(one, weight * _normalised(one.scores)), (other, (1 - weight) * _normalised(other.scores))])


def _normalised(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mapped linearly to 0 for the smallest and 1 for the largest."""
    if not len(scores):
        return np.empty(0)
    numbers = scores.astype(np.float64)
    low, high = numbers.min(), numbers.max()
    return (numbers - low) / (high - low) if high > low else np.ones(len(numbers))


def _fused(terms: list[tuple[Ranking, NDArray[np.float64]]]) -> Ranking:
    """Ranks documents by the sums of their values, float64 [documents] for each ranking."""
    sums: dict[str, float] = {}
    addresses: dict[str, int] = {}
    for ranking, values in terms:
        for key, address, value in zip(ranking.ids, ranking.addresses.tolist(), values.tolist(), strict=True):
            sums[key] = sums.get(key, 0.0) + value
            addresses[key] = address
    # Rounded first, so that scores which the caller sees as equal are ordered by id.
    return ranked([(float(np.float32(value)), key, addresses[key]) for key, value in sums.items()])
