"""Two rankings of one query become one, by the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tridex.index import Ranking, fuse_ranks, fuse_scores

IDS = [f"d{i:02}" for i in range(20)]


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    ids = draw(st.lists(st.sampled_from(IDS), unique=True))
    scores = sorted(draw(st.lists(st.integers(-50, 50), min_size=len(ids), max_size=len(ids))), reverse=True)
    addresses = np.array([int(key[1:]) + 1000 for key in ids], np.uint64)
    return Ranking(ids, np.array(scores, np.float32), addresses)


def assert_is(fused: Ranking, expected: dict[str, float]) -> None:
    assert dict(zip(fused.ids, fused.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    order = list(zip((-fused.scores).tolist(), fused.ids, strict=True))
    assert order == sorted(order), "descending, ties by id"
    assert fused.addresses.tolist() == [int(key[1:]) + 1000 for key in fused.ids]


@given(rankings(), rankings())
def test_reciprocal_rank_fusion(one: Ranking, other: Ranking) -> None:
    expected: dict[str, float] = {}
    for ranking in (one, other):
        for i in range(len(ranking.ids)):
            expected[ranking.ids[i]] = expected.get(ranking.ids[i], 0) + 1 / (60 + i + 1)
    assert_is(fuse_ranks(one, other), expected)


@given(rankings(), rankings(), st.floats(0, 1))
def test_weighted_fusion(one: Ranking, other: Ranking, weight: float) -> None:
    expected: dict[str, float] = {}
    for ranking, share in ((one, weight), (other, 1 - weight)):
        for key, score in zip(ranking.ids, ranking.scores.tolist(), strict=True):
            low, high = float(ranking.scores.min()), float(ranking.scores.max())
            normalised = (score - low) / (high - low) if high > low else 1.0
            expected[key] = expected.get(key, 0) + share * normalised
    assert_is(fuse_scores(one, other, weight), expected)


def test_both_stages_agreeing_beats_one_of_them() -> None:
    one = Ranking(["a", "b"], np.array([9, 8], np.float32), np.array([0, 1], np.uint64))
    other = Ranking(["c", "b"], np.array([2, 1], np.float32), np.array([2, 1], np.uint64))
    assert fuse_ranks(one, other).ids == ["b", "a", "c"]
