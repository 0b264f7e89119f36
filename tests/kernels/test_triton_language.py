"""The Triton-language kernels on the CPU, under the interpreter, against the reference.

triton looks at TRITON_INTERPRET when it is imported, so the interpreted launch layer lives in a process of its own;
this one keeps the compiler (test_compilation.py). bfloat16 is only compiled: the interpreter's dot is wrong for it.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import interpreted_kernels as kernels
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maxsim_data import (
    LENGTHS,
    assert_close_for_its_magnitude,
    assert_powers_apart,
    codebook,
    documents,
    masks,
    of_magnitudes,
    packed,
    queries,
    residual_and_int8,
    rising,
)
from ptx import run_ptx

from tridex.kernels import Codec, Segment, pack, pack_bitmap, reference
from tridex.kernels.gpu.codes import DECODE_2_BITS, DECODE_4_BITS
from tridex.kernels.top_k import sort_keys, top_k_of_keys

CODECS = [codec for codec in Codec if codec is not Codec.BFLOAT16]
INF = float("inf")

Call = Callable[..., Any]
"""Calls a function of interpreted_kernels.py there."""


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Call]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            # torch then fills all that torch.empty returns with NaN and the largest integers.
            pool.submit(torch.use_deterministic_algorithms, True).result()
        poison = pool.submit(torch.empty, 3).result()
        assert poison.isnan().all()
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def assert_close(scores: torch.Tensor, expected: torch.Tensor) -> None:
    """Inputs are rounded to the codec on both sides: what is left are float32 sums of dim products."""
    torch.testing.assert_close(scores.double(), expected, rtol=1e-5, atol=1e-5)


def assert_agrees_with_reference(
    interpreted: Call, query: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor, rows: torch.Tensor
) -> None:
    scores, found = interpreted(kernels.search, query, segment, top_k, mask)
    expected_scores, expected_found = reference.search(query, segment, top_k, mask)
    assert_close(scores, expected_scores)
    assert torch.equal(found, expected_found)
    rescored = interpreted(kernels.rescore, query, segment, found, mask)
    assert torch.equal(rescored, scores)
    assert_close(
        interpreted(kernels.rescore, query, segment, rows, mask), reference.rescore(query, segment, rows, mask)
    )
    tokens, similarities = interpreted(kernels.explain, query, segment, rows, mask)
    expected_tokens, expected_similarities = reference.explain(query, segment, rows, mask)
    assert_close(similarities, expected_similarities)
    assert torch.equal(tokens, expected_tokens)


@pytest.mark.parametrize("codec", CODECS)
def test_search_rescore_and_explain_agree_with_the_reference(interpreted: Call, codec: Codec) -> None:
    segment = packed(documents(LENGTHS, 128), codec).with_live(pack_bitmap(np.arange(len(LENGTHS)) != 3))
    rows = torch.tensor([[-1, 0, 3, 5, 5, 9, 10, 2**40]] * 2)
    assert_agrees_with_reference(interpreted, queries(2, 32, 128), segment, 12, masks(2, 32), rows)


@settings(deadline=None, max_examples=10)
@given(
    codec=st.sampled_from(CODECS),
    lengths=st.lists(st.sampled_from([0, 1, 2, 16, 17, 32, 33, 70]), min_size=1, max_size=12),
    dim=st.sampled_from([1, 3, 16, 48, 144]),
    batch=st.integers(1, 9),
    tokens=st.sampled_from([1, 7, 31, 32, 33, 70]),
    top_k=st.sampled_from([1, 3, 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_agrees_with_the_reference(
    interpreted: Call, codec: Codec, lengths: list[int], dim: int, batch: int, tokens: int, top_k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dim = dim if not codec.residual_bits else 16 * (dim // 16 + (dim < 16))
    segment = packed(documents(lengths, dim, seed), codec).with_live(pack_bitmap(rng.random(len(lengths)) < 0.7))
    rows = torch.from_numpy(rng.integers(-2, len(lengths) + 2, (batch, 3)))
    query, mask = queries(batch, tokens, dim, seed), masks(batch, tokens, seed)
    assert_agrees_with_reference(interpreted, query, segment, top_k, mask, rows)


@settings(deadline=None, max_examples=12)
@given(
    codec=st.sampled_from(CODECS),
    exponents=st.lists(
        st.lists(st.integers(-137, 127), min_size=3, max_size=3) | st.integers(-137, 127).map(lambda e: [e] * 3),
        min_size=1,
        max_size=3,
    ),
    k=st.integers(-264, 264),
    seed=st.integers(0, 99),
)
def test_queries_of_any_magnitude_agree_with_the_reference(
    interpreted: Call, codec: Codec, exponents: list[list[int]], k: int, seed: int
) -> None:
    segment, query = packed(documents([1, 0, 40, 3], 16, seed), codec), of_magnitudes(exponents, 16, seed)
    mask, every = torch.ones(query.shape[:2], dtype=torch.bool), torch.arange(4).expand(len(query), -1)
    lengths = query.double().norm(dim=2).clamp(min=2.0**-149)
    longest = lengths.amax(dim=1, keepdim=True)
    scores, rows = interpreted(kernels.search, query, segment, 4, mask)
    assert torch.equal(rows, reference.search(query, segment, 4)[1])
    assert_close_for_its_magnitude(scores, reference.search(query, segment, 4)[0], longest, 1e-5)
    assert torch.equal(interpreted(kernels.rescore, query, segment, rows, mask), scores)
    tokens, similarities = interpreted(kernels.explain, query, segment, every, mask)
    expected_tokens, expected = reference.explain(query, segment, every)
    assert_close_for_its_magnitude(similarities, expected, lengths[:, None], 1e-5)
    assert torch.equal(tokens, expected_tokens)

    other = (query.double() * 2.0**k).float()
    if torch.equal(other.double(), query.double() * 2.0**k):
        others_scores, others_rows = interpreted(kernels.search, other, segment, 4, mask)
        assert torch.equal(others_rows, rows)
        assert_powers_apart(scores, others_scores, k)


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_residual_codes_score_as_the_int8_numbers_that_they_stand_for(interpreted: Call, codec: Codec) -> None:
    """To the last bit: sums are integers, whatever reads them."""
    residual, numbers = residual_and_int8(codec)
    query, mask = queries(3, 40, 128), masks(3, 40)
    scores, rows = interpreted(kernels.search, query, residual, 12, mask)
    expected_scores, expected_rows = interpreted(kernels.search, query, numbers, 12, mask)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows, expected_rows)


def test_float8_without_float8_products_has_the_same_scores(interpreted: Call) -> None:
    """An A100 converts codes to float16, among them e4m3's subnormal numbers (below 2^-14), which float16 holds too."""
    docs = [
        tokens * np.float32(2.0**-13) ** np.linspace(0, 1, 48, dtype=np.float32) for tokens in documents(LENGTHS, 48)
    ]
    segment, query, mask = pack(docs, Codec.FLOAT8), queries(2, 32, 48), masks(2, 32)
    scores, rows = interpreted(kernels.search_before_float8, query, segment, 10, mask)
    expected_scores, expected_rows = reference.search(query, segment, 10, mask)
    assert_close(scores, expected_scores)
    assert torch.equal(rows, expected_rows)


@pytest.mark.parametrize("codec", [Codec.FLOAT16, Codec.INT8, Codec.RESIDUAL4])
def test_a_score_has_the_same_bits_in_every_batch_and_place(interpreted: Call, codec: Codec) -> None:
    """In query tiles of every size: alone with 32 tokens or fewer, alone with more, 3 and 9 queries."""
    docs, query = documents([0, 1, 33, 70], 32), queries(9, 40, 32)
    lengths = torch.arange(9) * 11 % 40 + 1
    mask = torch.arange(40) < lengths[:, None]
    scores, rows = interpreted(kernels.search, query, packed(docs, codec), 4, mask)
    backwards = interpreted(kernels.rescore, query, packed(docs[::-1], codec), (3 - rows).where(rows >= 0, -1), mask)
    assert torch.equal(backwards, scores)
    some = interpreted(kernels.search, query[4:7], packed(docs, codec), 4, mask[4:7])
    assert torch.equal(some[0], scores[4:7])
    for i in (3, 5):
        alone = query[i : i + 1, : lengths[i]], packed(docs, codec), 4, mask[i : i + 1, : lengths[i]]
        assert torch.equal(interpreted(kernels.search, *alone)[0][0], scores[i])


def test_a_repeated_token_changes_nothing(interpreted: Call) -> None:
    docs, query, rows = documents([5, 32], 16), queries(1, 32, 16), torch.tensor([[0, 1]])
    mask = torch.ones(1, 32, dtype=torch.bool)
    scores = interpreted(kernels.rescore, query, pack(docs, Codec.INT8), rows, mask)
    padded = pack([np.concatenate([d, d[:1]]) for d in docs], Codec.INT8)
    assert torch.equal(interpreted(kernels.rescore, query, padded, rows, mask), scores)


@pytest.mark.parametrize("codec", [Codec.FLOAT32, Codec.FLOAT8, Codec.INT8, Codec.RESIDUAL4])
def test_a_masked_token_changes_nothing_whatever_its_numbers_are(interpreted: Call, codec: Codec) -> None:
    """As those that a search before has left behind a SearchPlan's query."""
    segment, query, rows = packed(documents([5, 32], 16), codec), queries(1, 6, 16), torch.tensor([[0, 1]])
    arguments = segment, rows, torch.ones(1, 6, dtype=torch.bool)
    scores = interpreted(kernels.rescore, query, *arguments)
    tokens, similarities = interpreted(kernels.explain, query, *arguments)
    for anything in (INF, float("nan")):
        wider = torch.cat([query, torch.full((1, 3, 16), anything)], dim=1)
        arguments = segment, rows, torch.arange(9)[None] < 6
        assert torch.equal(interpreted(kernels.rescore, wider, *arguments), scores)
        found_tokens, found_similarities = interpreted(kernels.explain, wider, *arguments)
        assert torch.equal(found_tokens[..., :6], tokens) and (found_tokens[..., 6:] == -1).all()
        assert torch.equal(found_similarities[..., :6], similarities) and (found_similarities[..., 6:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_search_a_rescore_and_an_explain_are_two_launches_each(interpreted: Call, dtype: torch.dtype) -> None:
    """Whatever the queries' type is."""
    segment, mask, query = packed(documents([5, 40], 48), Codec.RESIDUAL4), masks(2, 7), queries(2, 7, 48).to(dtype)
    assert interpreted(kernels.launches, query, segment, mask) == [
        ["prepare_queries", kernel] for kernel in ("search_documents", "score_candidates", "explain_candidates")
    ]
    found = interpreted(kernels.search, query, segment, 2, mask)
    assert all(map(torch.equal, found, interpreted(kernels.search, query.float(), segment, 2, mask)))


def test_what_is_deleted_or_not_a_number_harms_nobody(interpreted: Call) -> None:
    segment, query = pack(documents([9, 40, 9], 16), Codec.FLOAT16), queries(3, 5, 16)
    segment = segment.with_live(pack_bitmap(np.array([True, False, True])))
    mask = torch.ones(3, 5, dtype=torch.bool)
    expected = interpreted(kernels.search, query, segment, 3, mask)
    segment.codes[9:49] = 0xFF
    query[1] = float("nan")
    scores, rows = interpreted(kernels.search, query, segment, 3, mask)
    for i in (0, 2):
        assert torch.equal(scores[i], expected[0][i])
        assert torch.equal(rows[i], expected[1][i])


def test_ties_go_to_the_lower_row_across_blocks(interpreted: Call) -> None:
    best, other = documents([1, 1], 16)
    segment = pack([other if row % 20 else best for row in range(130)], Codec.FLOAT16)
    winners = list(range(0, 130, 20))
    mask = torch.ones(1, 1, dtype=torch.bool)
    _, rows = interpreted(kernels.search, torch.from_numpy(best)[None], segment, len(winners) + 5, mask)
    assert rows[0].tolist() == [*winners, 1, 2, 3, 4, 5]


def test_the_best_are_kept_when_every_document_is_better_than_the_last(interpreted: Call) -> None:
    """So that buffers run full, and the last documents are the best."""
    count, top_k = 900, 40
    docs, query = rising(count)
    scores, rows = interpreted(kernels.search, query, pack(docs, Codec.FLOAT32), top_k, torch.ones(1, 1).bool())
    assert rows[0].tolist() == list(range(count - 1, count - 1 - top_k, -1))
    assert scores[0].tolist() == [np.float32((row + 1) / count) for row in rows[0].tolist()]


@pytest.mark.parametrize("content", [0x00, 0x7F, 0xFF])
def test_a_workspace_may_hold_anything(interpreted: Call, content: int) -> None:
    segment = pack(documents(LENGTHS, 16), Codec.FLOAT16)
    query, mask = queries(3, 5, 16), masks(3, 5)
    scores, rows = interpreted(kernels.search_in_workspace_of, content, query, segment, 20, mask)
    expected_scores, expected_rows = reference.search(query, segment, 20, mask)
    assert_close(scores, expected_scores)
    assert torch.equal(rows, expected_rows)


def test_working_memory_is_not_a_score_for_every_document(interpreted: Call) -> None:
    """It grows with the number of multiprocessors, here one, and not with the documents'."""
    offsets = np.arange(1_000_001, dtype=np.int64)
    segment = Segment.from_numpy(Codec.FLOAT16, 1, np.zeros((1_000_000, 2), np.uint8), offsets)
    assert interpreted(kernels.search_workspace_bytes, segment, 1, 32, 10) < 100_000


def test_the_public_operators_take_bitmap_and_workspace_to_the_kernels(interpreted: Call) -> None:
    live = (np.arange(len(LENGTHS)) != 8) & (np.arange(len(LENGTHS)) % 2 == 0)
    segment = pack(documents(LENGTHS, 16), Codec.INT8).with_live(pack_bitmap(live))
    query, mask = queries(3, 5, 16), masks(3, 5)
    size = interpreted(kernels.search_workspace_bytes, segment, 3, 5, 4)
    for workspace in (None, torch.full((size,), 0xFF, dtype=torch.uint8)):
        scores, rows = interpreted(partial(kernels.search, workspace=workspace), query, segment, 4, mask)
        expected_scores, expected_rows = reference.search(query, segment, 4, mask)
        assert_close(scores, expected_scores)
        assert torch.equal(rows, expected_rows)
    short = {"workspace": torch.empty(size - 1, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=rf"workspace is .* \[{size - 1}\] .* expected .* \[{size} or more\]"):
        interpreted(partial(kernels.search, **short), query, segment, 4, mask)


def test_warm_up_runs_every_variant_there_is(interpreted: Call) -> None:
    assert interpreted(kernels.variants_warmed_up, 16, Codec.FLOAT16) == {2, 4, 8}


@pytest.mark.parametrize("live", [[False] * 3, [True, False, False]], ids=["all deleted", "only an empty one lives"])
def test_where_nothing_can_be_found_nothing_is(interpreted: Call, live: list[bool]) -> None:
    segment = pack(documents([0, 5, 20], 16), Codec.FLOAT16).with_live(pack_bitmap(np.array(live)))
    query, mask = queries(2, 3, 16), masks(2, 3)
    scores, rows = interpreted(kernels.search, query, segment, 4, mask)
    assert scores.tolist() == [[-INF] * 4] * 2
    assert rows.tolist() == [[-1] * 4] * 2


def test_a_segment_without_documents_is_searched(interpreted: Call) -> None:
    segment = Segment.from_numpy(Codec.FLOAT16, 16, np.empty((0, 32), np.uint8), np.zeros(1, np.int64))
    query, mask, rows = queries(2, 3, 16), masks(2, 3), torch.zeros((2, 1), dtype=torch.int64)
    assert interpreted(kernels.search, query, segment, 2, mask)[1].tolist() == [[-1, -1]] * 2
    assert interpreted(kernels.rescore, query, segment, rows, mask).tolist() == [[-INF]] * 2
    assert interpreted(kernels.rescore, query, segment, rows[:, :0], mask).shape == (2, 0)
    assert interpreted(kernels.explain, query, segment, rows[:, :0], mask)[0].shape == (2, 0, 3)


def test_a_query_without_tokens_scores_zero_on_documents_with_tokens(interpreted: Call) -> None:
    segment = pack(documents([3, 0, 2], 16), Codec.FLOAT16)
    scores, rows = interpreted(kernels.search, queries(1, 4, 16), segment, 3, torch.zeros(1, 4, dtype=torch.bool))
    assert (scores.tolist(), rows.tolist()) == ([[0.0, 0.0, -INF]], [[0, 2, -1]])


@pytest.mark.parametrize(
    ("codec", "tokens"),
    [(Codec.FLOAT16, 2**24 + 1), (Codec.INT8, 2**24 + 1), (Codec.RESIDUAL4, 2**25 + 1)],
)
def test_tokens_past_2_gib_of_codes_are_found(interpreted: Call, codec: Codec, tokens: int) -> None:
    document, query = documents([37], 128)[0], queries(1, 32, 128)
    mask, row = torch.ones(1, 32, dtype=torch.bool), torch.tensor([[0]])
    near = packed([document], codec)
    found, rows, rescored, places = interpreted(kernels.search_far_away, codec, tokens, document, query, mask)
    assert rows.tolist() == [[1, -1]]
    assert torch.equal(found[:, :1], interpreted(kernels.rescore, query, near, row, mask))
    assert torch.equal(rescored, found[:, :1])
    assert torch.equal(places, interpreted(kernels.explain, query, near, row, mask)[0])


def test_the_order_is_by_score_then_row() -> None:
    """The sort keys of a CPU; the device's are covered by the tests above."""
    scores = torch.tensor([[2.0, -0.0, -3.5, 0.0, -INF, 2.0, 1e-45, -1e-45]])
    best, rows = top_k_of_keys(sort_keys(scores, torch.arange(8)), 10)
    assert rows.tolist() == [[0, 5, 6, 1, 3, 7, 2, -1, -1, -1]]
    assert best[0, :7].tolist() == scores[0, rows[0, :7]].tolist()


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_the_assembly_that_decodes_residual_codes_does(codec: Codec) -> None:
    """The interpreter has no PTX and compares codes with each bucket instead; so this runs it, for every byte and every
    number of a centroid."""
    book = codebook(codec, 16)
    assert book is not None
    weights = (book.bucket_weights.view(torch.int32) ^ -0x7F7F7F80).numpy().view(np.uint32)
    outputs = 8 // codec.residual_bits
    largest = 127 - int(book.bucket_weights.abs().max())
    numbers = np.random.default_rng(0).integers(-largest, largest + 1, (64, outputs, 4), np.int8)
    numbers[:2] = [[[-largest]], [[largest]]]
    codes = np.arange(256, dtype=np.uint8)
    registers = {f"${outputs}": codes.view(np.uint32)[:, None]}  # [codes, numbers]
    registers |= {f"${outputs + 1 + i}": numbers[:, i].copy().view(np.uint32).T for i in range(outputs)}
    step = 4 if outputs == 2 else 1
    registers |= {f"${2 * outputs + 1 + step * i}": word for i, word in enumerate(weights)}
    values = run_ptx(DECODE_4_BITS if outputs == 2 else DECODE_2_BITS, registers)
    of_codes = book.bucket_weights_of(torch.from_numpy(codes)[:, None]).numpy().reshape(64, 1, 4, outputs)
    for part in range(outputs):
        decoded = np.ascontiguousarray(values[f"${part}"]).view(np.int8).reshape(64, 64, 4)
        np.testing.assert_array_equal(decoded, of_codes[..., part] + numbers[:, part])
