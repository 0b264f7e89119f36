"""Queries of any magnitude that float32 holds, on the CPU; test_triton_language.py has the same of the kernels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maxsim_data import (
    LENGTHS,
    assert_close_for_its_magnitude,
    assert_powers_apart,
    documents,
    masks,
    of_magnitudes,
    packed,
    queries,
)

from tridex.kernels import LARGEST_SCORE, Codec, explain, pack, reference, rescore, scale_queries, search
from tridex.kernels.scaling import scale_tokens, unscaled

EXPONENTS = st.integers(-137, 127)
MAGNITUDES = st.lists(EXPONENTS, min_size=5, max_size=5) | EXPONENTS.map(lambda exponent: [exponent] * 5)
"""Of each token of a query, from 1e-42 to 1e38."""


@settings(deadline=None, max_examples=60)
@given(
    codec=st.sampled_from(Codec),
    exponents=st.lists(MAGNITUDES, min_size=1, max_size=4),
    k=st.integers(-264, 264),
    seed=st.integers(0, 2**32 - 1),
)
def test_search_rescore_and_explain_agree_with_the_reference(
    codec: Codec, exponents: list[list[int]], k: int, seed: int
) -> None:
    segment, query = packed(documents(LENGTHS, 32, seed), codec), of_magnitudes(exponents, 32, seed)
    mask, every = masks(*query.shape[:2], seed), torch.arange(len(LENGTHS)).expand(len(query), -1)
    lengths = query.double().norm(dim=2).clamp(min=2.0**-149)
    longest = lengths.where(mask, 2.0**-149).amax(dim=1, keepdim=True)
    scores, rows = search(query, segment, 12, mask)
    expected_scores, expected_rows = reference.search(query, segment, 12, mask)
    assert_close_for_its_magnitude(scores, expected_scores, longest, 1e-5)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(rescore(query, segment, rows, mask), scores)
    tokens, similarities = explain(query, segment, every, mask)
    expected_tokens, expected = reference.explain(query, segment, every, mask)
    assert_close_for_its_magnitude(similarities, expected, lengths[:, None], 1e-5)
    assert torch.equal(tokens, expected_tokens)

    other = (query.double() * 2.0**k).float()
    if torch.equal(other.double(), query.double() * 2.0**k):
        others_scores, others_rows = search(other, segment, 12, mask)
        assert torch.equal(others_rows, rows)
        assert_powers_apart(scores, others_scores, k)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("magnitude", [2.0**-149, 2.0**-133, 2.0**-33, 2.0**15, 2.0**66, 2.0**126])
def test_every_document_is_found_in_the_order_of_ordinary_queries(codec: Codec, magnitude: float) -> None:
    segment = packed(documents(LENGTHS, 32), codec)
    query = torch.eye(32)[None, :6]
    expected_scores, expected_rows = search(query, segment, 9)
    scores, rows = search(query * magnitude, segment, 9)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(scores, (expected_scores.double() * magnitude).float())


def test_scores_beyond_float32_are_the_largest_and_keep_their_order() -> None:
    docs = [np.array([[value, 0]], np.float32) for value in (0.5, -1, 0.75, 0.001, -0.75)]
    query = torch.tensor([[[3e38, 0], [3e38, 0], [3e38, 0]]])
    scores, rows = search(query, pack(docs, Codec.FLOAT32), 5)
    assert rows.tolist() == [[2, 0, 3, 4, 1]]
    assert scores[0, [0, 1, 3, 4]].tolist() == [LARGEST_SCORE, LARGEST_SCORE, -LARGEST_SCORE, -LARGEST_SCORE]
    assert scores[0, 2] == pytest.approx(9e35, rel=1e-6)
    assert rescore(query, pack(docs, Codec.FLOAT32), torch.tensor([[1, 3, -1]]))[0].tolist() == [
        -LARGEST_SCORE,
        scores[0, 2],
        -torch.inf,
    ]


@pytest.mark.parametrize("codec", Codec)
def test_what_is_masked_has_no_magnitude(codec: Codec) -> None:
    segment, query = packed(documents(LENGTHS, 32), codec), queries(2, 6, 32)
    expected = search(query[:, :4], segment, 5)
    for anything in (0.0, 1e-40, 3e38, torch.inf, torch.nan):
        query[:, 4:] = anything
        found = search(query, segment, 5, torch.arange(6).expand(2, -1) < 4)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


@given(length=st.floats(0.71, 1.41), seed=st.integers(0, 99))
def test_tokens_of_about_unit_length_are_left_as_they_are(length: float, seed: int) -> None:
    query, mask = queries(2, 7, 48, seed) * length, masks(2, 7, seed)
    tokens, weights, units = scale_queries(query, mask)
    assert torch.equal(tokens, query)
    assert torch.equal(weights, mask.float())
    assert units.tolist() == [[1.0 if kept.any() else 2.0**-500] for kept in mask]


def test_a_token_of_zeros_counts_for_nothing_whatever_the_others_are() -> None:
    segment = pack(documents([3, 4], 16), Codec.FLOAT16)
    for magnitude in (0.0, 1e-40, 1.0, 1e38):
        query = queries(1, 3, 16) * magnitude
        scores, rows = search(torch.cat([query, torch.zeros(1, 1, 16)], dim=1), segment, 2)
        expected_scores, expected_rows = search(query, segment, 2)
        assert torch.equal(scores, expected_scores) and torch.equal(rows, expected_rows)


def test_many_numbers_are_scaled_like_few() -> None:
    """A CPU takes them in parts."""
    query = of_magnitudes([[e] * 60 for e in range(-130, 126, 16)], 128, 0)
    mask = masks(*query.shape[:2])
    together = scale_queries(query, mask)
    apart = [scale_queries(query[i : i + 1], mask[i : i + 1]) for i in range(len(query))]
    for whole, parts in zip(together, zip(*apart, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(parts))
    results = torch.randn(len(query), 3000)
    everything = unscaled(results, together.units)
    for i, units in enumerate(together.units):
        assert torch.equal(everything[i], unscaled(results[i : i + 1], units[None])[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_queries_are_scaled_as_float32_ones(dtype: torch.dtype) -> None:
    query, mask = of_magnitudes([[-14, 0, 10, 3, 3]] * 2, 32, 1).to(dtype), masks(2, 5)
    for scale in (scale_queries, scale_tokens):
        for half, full in zip(scale(query, mask), scale(query.float(), mask), strict=True):
            assert torch.equal(half, full)
