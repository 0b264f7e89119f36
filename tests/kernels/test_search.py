"""The operator on the CPU, against the reference, against others' MaxSim, and by its properties."""

import multiprocessing
import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maxsim_data import codebook, documents, masks, packed, queries, residual_and_int8
from sentence_transformers.util import maxsim

from tridex.kernels import (
    Codec,
    Segment,
    decode,
    encode,
    pack,
    pack_bitmap,
    reference,
    rescore,
    search,
    search_bytes,
    search_flops,
)
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.cpu import backend as cpu

LENGTHS = [0, 1, 15, 16, 17, 300, 63, 64, 65, 2]
INF = float("inf")


def assert_ranked_as(scores: torch.Tensor, rows: torch.Tensor, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    """float32 sums of at most 100 maxima, each off by about dim roundings of 6e-8."""
    torch.testing.assert_close(scores.double(), expected[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(rows, expected[1])


def triple_loop(query: torch.Tensor, document: np.ndarray) -> float:
    total = 0.0
    for token in query.tolist():
        total += max(sum(a * b for a, b in zip(token, other, strict=True)) for other in document.tolist())
    return total


def test_the_reference_is_the_formula() -> None:
    docs, query = documents([3, 1, 4], 5), queries(1, 3, 5)
    scores = reference.score(query, pack(docs, Codec.FLOAT32))
    torch.testing.assert_close(scores[0], torch.tensor([triple_loop(query[0], d) for d in docs], dtype=torch.float64))


@settings(deadline=None, max_examples=40)
@given(
    codec=st.sampled_from(Codec),
    lengths=st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 16, 17, 64, 65, 130]), max_size=12),
    dim=st.sampled_from([1, 3, 16, 48, 128]),
    batch=st.integers(1, 5),
    tokens=st.sampled_from([1, 7, 16, 17, 32, 33, 70]),
    top_k=st.sampled_from([1, 3, 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_search_and_rescore_agree_with_the_reference(
    codec: Codec, lengths: list[int], dim: int, batch: int, tokens: int, top_k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    dim = dim if not codec.residual_bits else 16 * (dim // 16 + (dim < 16))
    segment = packed([*documents(lengths, dim, seed), np.empty((0, dim), np.float32)], codec)
    segment = segment.with_live(pack_bitmap(rng.random(segment.documents) < 0.7))
    query, mask = queries(batch, tokens, dim, seed), masks(batch, tokens, seed)
    scores, rows = search(query, segment, top_k, mask)
    assert_ranked_as(scores, rows, reference.search(query, segment, top_k, mask))
    candidates = torch.from_numpy(rng.integers(-2, segment.documents + 2, (batch, 9)))
    rescored = rescore(query, segment, candidates, mask)
    expected = reference.rescore(query, segment, candidates, mask)
    torch.testing.assert_close(rescored.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(rescore(query, segment, rows, mask), scores)


@pytest.mark.parametrize("codec", Codec)
def test_scores_are_those_of_sentence_transformers(codec: Codec) -> None:
    """Of the decoded tokens and the rounded queries."""
    docs, query, mask = documents(LENGTHS[1:], 128), queries(4, 20, 128), masks(4, 20)
    book = codebook(codec, 128)
    decoded = [torch.from_numpy(decode(codec, encode(codec, tokens, book), book)) for tokens in docs]
    numbers, scales = DESCRIPTIONS[codec].round_queries(query)
    rounded = numbers.float() / DESCRIPTIONS[codec].unit * (1 if scales is None else scales[..., None])
    expected = maxsim(rounded, decoded, a_mask=mask)
    rows = torch.arange(len(docs)).expand(4, -1)
    torch.testing.assert_close(rescore(query, packed(docs, codec), rows, mask), expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8), batch=st.integers(1, 4), seed=st.integers(0, 99))
def test_scores_are_those_of_a_padded_einsum(lengths: list[int], batch: int, seed: int) -> None:
    docs, query = documents(lengths, 32, seed), queries(batch, 11, 32, seed)
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(d) for d in docs], batch_first=True)
    dots = torch.einsum("bid,njd->bnij", query, padded)
    beyond = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    expected = dots.masked_fill(beyond[None, :, None], -INF).amax(dim=-1).sum(dim=-1)
    rows = torch.arange(len(docs)).expand(batch, -1)
    torch.testing.assert_close(rescore(query, pack(docs, Codec.FLOAT32), rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("batch", [2, 3, 16])
def test_a_score_has_the_same_bits_in_every_batch(codec: Codec, batch: int) -> None:
    segment = packed(documents(LENGTHS * 4, 128), codec)
    query = queries(batch, 48, 128)
    lengths = torch.arange(batch) * 5 % 48 + 1
    mask = torch.arange(48) < lengths[:, None]
    scores, rows = search(query, segment, 40, mask)
    for i, length in enumerate(lengths.tolist()):
        alone_scores, alone_rows = search(query[i : i + 1, :length], segment, 40)
        assert torch.equal(alone_scores[0], scores[i])
        assert torch.equal(alone_rows[0], rows[i])
    assert torch.equal(rescore(query, segment, rows, mask), scores)


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_residual_codes_score_as_the_int8_numbers_that_they_stand_for(codec: Codec) -> None:
    """To the last bit: sums are integers, whatever reads them."""
    residual, numbers = residual_and_int8(codec)
    query, mask = queries(3, 40, 128), masks(3, 40)
    scores, rows = search(query, residual, 12, mask)
    expected_scores, expected_rows = search(query, numbers, 12, mask)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows, expected_rows)


@pytest.mark.parametrize("codec", Codec)
def test_a_score_has_the_same_bits_wherever_its_document_is(codec: Codec) -> None:
    docs, query = documents(LENGTHS, 64), queries(2, 32, 64)
    order = np.random.default_rng(3).permutation(len(docs))
    here = rescore(query, packed(docs, codec), torch.from_numpy(order).expand(2, -1))
    there = rescore(query, packed([docs[i] for i in order], codec), torch.arange(len(docs)).expand(2, -1))
    assert torch.equal(here, there)


@pytest.mark.parametrize("codec", Codec)
def test_a_repeated_token_and_a_masked_token_change_nothing(codec: Codec) -> None:
    docs, query = documents([5, 9], 16), queries(1, 6, 16)
    rows = torch.tensor([[0, 1]])
    scores = rescore(query, packed(docs, codec), rows)
    assert torch.equal(rescore(query, packed([np.concatenate([d, d[:1]]) for d in docs], codec), rows), scores)
    wider = torch.cat([query, torch.full((1, 3, 16), 100.0)], dim=1)
    assert torch.equal(rescore(wider, packed(docs, codec), rows, torch.arange(9)[None] < 6), scores)


def test_negative_similarities_are_kept() -> None:
    segment = pack([np.array([[-1, 0]], np.float32)], Codec.FLOAT16)
    scores, rows = search(torch.tensor([[[1.0, 0], [1, 0]]]), segment, 1)
    assert (scores.tolist(), rows.tolist()) == ([[-2.0]], [[0]])


def test_ties_go_to_the_lower_row() -> None:
    best, other = documents([7, 7], 16)
    segment = pack([other, best, other, best, best, other] * 50, Codec.FLOAT16)
    query = torch.from_numpy(best)[None]
    _, rows = search(query, segment, 200)
    winners = [row for row in range(300) if row % 6 in (1, 3, 4)]
    losers = [row for row in range(300) if row % 6 in (0, 2, 5)]
    assert rows[0].tolist() == winners + losers[:50]


def test_zeros_of_either_sign_tie() -> None:
    segment = pack([np.array([[value, 0]], np.float32) for value in (-0.0, 0.0, 1.0, -0.0)], Codec.FLOAT32)
    _, rows = search(torch.tensor([[[0.0, 1.0]]]), segment, 4)
    assert rows.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("codec", list(Codec))
def test_a_document_by_itself_has_the_similarities_that_it_has_among_others(codec: Codec) -> None:
    lengths = [3, 0, 17, 5]
    segment, query = packed(documents(lengths, 32), codec), queries(2, 4, 32)
    every = reference.similarities(query, segment)
    for row, (start, end) in enumerate(pairwise(segment.offsets.tolist())):
        alone = segment.document(row)
        assert alone.documents == 1 and reference.is_live(alone, 0)
        torch.testing.assert_close(reference.similarities(query, alone), every[:, :, start:end], rtol=1e-12, atol=1e-12)


def test_a_query_without_tokens_scores_zero_on_documents_with_tokens() -> None:
    segment = pack(documents([3, 0, 2], 8), Codec.FLOAT16)
    query, mask = queries(2, 4, 8), torch.tensor([[False] * 4, [True] * 4])
    scores, rows = search(query, segment, 3, mask)
    assert scores[0].tolist() == [0.0, 0.0, -INF]
    assert rows[0].tolist() == [0, 2, -1]
    assert torch.equal(scores[1:], search(query[1:], segment, 3)[0])


@pytest.mark.parametrize(
    "segment",
    [
        *(packed(documents([5, 6], 16), codec).with_live(pack_bitmap(np.zeros(2, np.bool_))) for codec in Codec),
        pack(documents([0, 0], 16), Codec.FLOAT16),
        Segment.from_numpy(Codec.FLOAT16, 16, np.empty((0, 32), np.uint8), np.zeros(1, np.int64)),
    ],
    ids=[*(f"deleted {codec.value}" for codec in Codec), "empty documents", "no documents"],
)
def test_where_nothing_can_be_found_nothing_is(segment: Segment) -> None:
    query = queries(2, 3, 16)
    scores, rows = search(query, segment, 3)
    assert scores.tolist() == [[-INF] * 3] * 2
    assert rows.tolist() == [[-1] * 3] * 2
    assert rescore(query, segment, torch.tensor([[0, -1, 1]] * 2)).tolist() == [[-INF] * 3] * 2
    assert rescore(query, segment, torch.empty((2, 0), dtype=torch.int64)).shape == (2, 0)


@pytest.mark.parametrize("codec", Codec)
def test_a_nan_query_harms_no_other(codec: Codec) -> None:
    segment = packed(documents(LENGTHS, 32), codec)
    query = queries(3, 8, 32)
    expected = search(query, segment, 5)
    query[1] = float("nan")
    scores, rows = search(query, segment, 5)
    for i in (0, 2):
        assert torch.equal(scores[i], expected[0][i])
        assert torch.equal(rows[i], expected[1][i])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_queries_of_any_float_type_are_rounded_to_the_codec(dtype: torch.dtype) -> None:
    segment = pack(documents(LENGTHS, 32), Codec.FLOAT32)
    query = queries(2, 8, 32).to(dtype)
    assert torch.equal(search(query, segment, 5)[0], search(query.float(), segment, 5)[0])


def test_tokens_past_4_gib_are_found() -> None:
    tokens, dim = 2**24 + 8, 128
    codes = np.zeros((tokens, 2 * dim), np.uint8)  # Never touched but for its end, so it takes no memory.
    document = documents([8], dim)[0]
    codes[-8:] = encode(Codec.FLOAT16, document)
    live = np.array([False, True])
    segment = Segment.from_numpy(Codec.FLOAT16, dim, codes, np.array([0, tokens - 8, tokens]), live)
    query = queries(1, 32, dim)
    scores, rows = search(query, segment, 1)
    assert rows.tolist() == [[1]]
    assert torch.equal(scores, rescore(query, pack([document], Codec.FLOAT16), torch.tensor([[0]])))


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cpu, "_THREADS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("codec", [Codec.FLOAT16, Codec.RESIDUAL2])
def test_many_threads_give_the_result_of_one(codec: Codec, request: pytest.FixtureRequest) -> None:
    segment = packed(documents([50] * 1000, 128), codec)
    query = queries(8, 32, 128)
    candidates = torch.arange(1000).expand(8, -1)
    many = [*search(query, segment, 10), rescore(query, segment, candidates)]
    request.getfixturevalue("one_thread")
    one = [*search(query, segment, 10), rescore(query, segment, candidates)]
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


@pytest.mark.skipif(cpu._THREADS == 1, reason="one core")
def test_a_thread_in_the_background_that_keeps_torch_to_one_core_takes_none_from_searches() -> None:
    segment = pack(documents([50] * 1000, 128), Codec.FLOAT16)
    cpu._pool.cache_clear()

    def in_the_background() -> None:
        torch.set_num_threads(1)
        search(queries(8, 32, 128), segment, 1)

    thread = threading.Thread(target=in_the_background)
    thread.start()
    thread.join()
    assert cpu._pool.cache_info().currsize == 1, "the search asked for helpers"


def _put_best_rows(results: "multiprocessing.SimpleQueue[list[int]]") -> None:
    segment = pack(documents([50] * 1000, 128), Codec.FLOAT16)
    results.put(search(queries(8, 32, 128), segment, 1)[1].flatten().tolist())


@pytest.mark.usefixtures("one_thread")  # torch waits for ever for its own threads after a fork.
def test_a_forked_process_searches() -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    _put_best_rows(results)
    child = context.Process(target=_put_best_rows, args=(results,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert results.get() == results.get()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": torch.ones(3, 8)}, r"queries is torch.float32 \[3, 8\] on cpu; expected .* \[batch, tokens, 8\]"),
        ({"queries": torch.ones(1, 3, 9)}, r"queries is torch.float32 \[1, 3, 9\] on cpu; expected"),
        ({"queries": torch.ones(0, 3, 8)}, r"queries is torch.float32 \[0, 3, 8\] on cpu; expected .* none of them 0"),
        ({"queries": torch.ones(1, 3, 8).double()}, r"queries is torch.float64 .*; expected torch.float32, float16 or"),
        ({"queries": torch.ones(1, 3, 8, device="meta")}, r"queries is .* on meta; expected .* on cpu"),
        (
            {"query_mask": torch.ones(1, 3)},
            r"query_mask is torch.float32 \[1, 3\] on cpu; expected torch.bool \[1, 3\]",
        ),
        ({"query_mask": torch.ones(1, 4, dtype=torch.bool)}, r"query_mask is torch.bool \[1, 4\] on cpu; expected"),
        ({"top_k": 0}, "top_k is 0; expected at least 1"),
        (
            {"rows": torch.zeros(2, 3, dtype=torch.int64)},
            r"rows is torch.int64 \[2, 3\] .* torch.int64 \[1, candidates\]",
        ),
        ({"rows": torch.zeros(1, 3, dtype=torch.int32)}, r"rows is torch.int32 \[1, 3\] on cpu; expected torch.int64"),
        ({"workspace": torch.ones(9)}, r"workspace is torch.float32 \[9\] .*; expected contiguous torch.uint8 \[0 or"),
        (
            {"workspace": torch.ones(9, dtype=torch.uint8)[1:]},
            r"workspace is .* at address .*; expected .* at a multiple of 16",
        ),
        ({"segment": "meta"}, "segment is on meta; expected a CPU or a CUDA device"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    good = {"queries": torch.ones(1, 3, 8), "segment": pack(documents([3], 8), Codec.FLOAT16), "query_mask": None}
    operator = search
    if "rows" in arguments:
        operator = rescore
    else:
        good["top_k"] = 1
    if arguments == {"segment": "meta"}:
        segment = Segment(Codec.FLOAT16, 8, **{n: getattr(good["segment"], n) for n in ("codes", "offsets", "live")})
        object.__setattr__(segment, "codes", segment.codes.to("meta"))
        arguments = {"segment": segment, "queries": torch.ones(1, 3, 8, device="meta")}
    with pytest.raises(ValueError, match=message):
        operator(**good | arguments)


def test_cost_counts_what_a_search_reads_and_computes() -> None:
    segment = pack(documents([3, 4], 8), Codec.FLOAT16)
    assert search_flops(segment, query_tokens=10) == 2 * 10 * 7 * 8
    assert search_bytes(segment) == 7 * 16 + 3 * 8 + 4
    assert search_bytes(packed(documents([3, 4], 32), Codec.RESIDUAL4)) == 7 * (16 + 2 + 2) + 3 * 8 + 4
