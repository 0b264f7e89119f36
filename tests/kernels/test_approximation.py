"""A search with an approximation has the plain search's results to the last bit, whatever the numbers are."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maxsim_data import documents, masks, queries

from tridex.kernels import (
    Approximation,
    Codec,
    Segment,
    approximate,
    approximates,
    approximation_bytes,
    pack,
    pack_bitmap,
    scale_queries,
    search,
)
from tridex.kernels.approximation import Trials
from tridex.kernels.cpu import backend as cpu
from tridex.kernels.cpu.margins import margins

FLOATS = [Codec.FLOAT32, Codec.FLOAT16, Codec.BFLOAT16, Codec.FLOAT8]
LARGEST = {Codec.FLOAT32: 1e30, Codec.FLOAT16: 6e4, Codec.BFLOAT16: 1e30, Codec.FLOAT8: 1.7}

needs_quads = pytest.mark.skipif(not approximates(pack(documents([1], 4), Codec.FLOAT32)), reason="int8 is no quicker")


@st.composite
def token_embeddings(draw: st.DrawFn, codec: Codec, dim: int) -> list[np.ndarray]:
    """Documents of unit vectors, of zeros, of one large number among small ones, of any length; many of them equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    most = LARGEST[codec]
    drawn = []
    for _ in range(draw(st.integers(0, 6))):
        tokens = documents([draw(st.sampled_from([0, 1, 2, 9, 40]))], dim, int(rng.integers(2**32)))[0]
        kind = draw(st.sampled_from(["unit", "zeros", "spike", "huge", "tiny", "rounded", "negative"]))
        if kind == "zeros":
            tokens[::2] = 0
        elif kind == "spike":
            tokens[:, rng.integers(dim)] = most
        elif kind == "huge":
            tokens *= most
        elif kind == "tiny":
            tokens *= np.float32(10.0 ** rng.integers(-44, -4))
        elif kind == "rounded":
            tokens = np.round(tokens * 4) / 4
        elif kind == "negative":
            tokens = -np.abs(tokens)
        drawn.extend([tokens.clip(-most, most).astype(np.float32)] * draw(st.integers(1, 4)))
    return drawn


def filter_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the segment is, and however many candidates remain."""
    monkeypatch.setattr(cpu, "approximates", lambda _: True)
    monkeypatch.setattr(cpu, "_FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(cpu, "_DOCUMENTS_PER_HIT", 1)
    monkeypatch.setattr(cpu, "_LEFT", 1)


@needs_quads
@settings(deadline=None, max_examples=50)
@given(
    data=st.data(),
    codec=st.sampled_from(FLOATS),
    dim=st.sampled_from([1, 3, 16, 128]),
    batch=st.integers(1, 4),
    tokens=st.sampled_from([1, 7, 33]),
    top_k=st.sampled_from([1, 2, 10, 100]),
    magnitudes=st.sampled_from([(0, 0), (-30, 30), (-140, -120), (90, 120)]),
)
def test_results_are_the_plain_searchs(
    data: st.DataObject, codec: Codec, dim: int, batch: int, tokens: int, top_k: int, magnitudes: tuple[int, int]
) -> None:
    docs = data.draw(token_embeddings(codec, dim))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(docs))
    segment = pack([*(docs[i] for i in order), np.empty((0, dim), np.float32)], codec)
    approximation = approximate(segment)
    live = rng.random(segment.documents) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    segment = segment.with_live(pack_bitmap(live))
    query, mask = queries(batch, tokens, dim, seed % 2**31), masks(batch, tokens, seed % 2**31)
    query *= 2.0 ** torch.from_numpy(rng.integers(*magnitudes, (batch, tokens, 1), endpoint=True)).float()
    query[0, 0] = 0
    expected = search(query, segment, top_k, mask)
    with pytest.MonkeyPatch.context() as monkeypatch:
        filter_always(monkeypatch)
        found = search(query, segment, top_k, mask, approximation=approximation)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert_within_margins(query, mask, segment, approximation, np.flatnonzero(live))


def assert_within_margins(
    query: torch.Tensor, mask: torch.Tensor, segment: Segment, approximation: Approximation, rows: np.ndarray
) -> None:
    """Of scores that the loops compute; nothing is said of a document without tokens, or where a margin is infinite."""
    scaled = scale_queries(query, mask)
    exact = cpu._scores(scaled, segment, rows).astype(np.float64)
    coarse = cpu._scores(scaled, approximation.segment, rows).astype(np.float64)
    found = margins(scaled, segment.codec, approximation, rows)
    assert not np.isnan(found).any()
    for one, other, margin in zip(exact, coarse, found, strict=True):
        scored = np.isfinite(one) & np.isfinite(other) & np.isfinite(margin)
        assert (np.abs(one[scored] - other[scored]) <= margin[scored]).all()
        assert (np.isneginf(one) == np.isneginf(other))[np.isfinite(margin)].all()


@needs_quads
@pytest.mark.parametrize("top_k", [1, 10, 100])
def test_few_documents_are_scored_exactly(top_k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of documents as an encoder makes them, with duplicates of the best."""
    docs = documents([8] * 3000, 64)
    query = torch.from_numpy(np.stack(docs[:3])) + 0.3 * queries(3, 8, 64)
    segment = pack([*docs, *docs[:20]], Codec.FLOAT16)
    monkeypatch.setattr(cpu, "_FEWEST_PRODUCTS", 0)
    exact = []
    own_scores = cpu._own_scores
    monkeypatch.setattr(cpu, "_own_scores", lambda *given: exact.append((given[2] >= 0).sum()) or own_scores(*given))
    found = search(query, segment, top_k, approximation=approximate(segment))
    expected = search(query, segment, top_k)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert len(exact) == 1 and 3 * top_k <= exact[0] < 3 * 1500


@needs_quads
def test_a_search_without_gain_is_not_tried_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All documents are the same: every one is a candidate."""
    segment = pack(documents([4], 16) * 400, Codec.FLOAT16)
    approximation = approximate(segment)
    monkeypatch.setattr(cpu, "_FEWEST_PRODUCTS", 0)
    tried = []
    monkeypatch.setattr(cpu, "margins", lambda *given: tried.append(1) or margins(*given))
    for _ in range(300):
        assert search(queries(1, 4, 16), segment, 3, approximation=approximation)[1].tolist() == [[0, 1, 2]]
    assert 6 < len(tried) < 12


def test_a_pause_ends_once_it_helps() -> None:
    trials = Trials()
    for failures in range(1, 4):
        assert trials.is_due(10)
        trials.judge(10, helped=False)
        assert [trials.is_due(10) for _ in range(2**failures - 1)] == [False] * (2**failures - 1)
        assert trials.is_due(1000), "another magnitude"
    assert trials.is_due(10)
    trials.judge(10, helped=True)
    assert trials.is_due(10) and trials.is_due(10)


def test_its_size_is_known_beforehand() -> None:
    segment = pack(documents([3, 0, 40], 16), Codec.FLOAT32)
    made = approximate(segment)
    held = [made.segment.codes, made.segment.scales, made.lengths, made.distances]
    assert sum(column.nbytes for column in held if column is not None) == approximation_bytes(segment)
    assert made.lengths[1] == made.distances[1] == 0


@pytest.mark.parametrize("codec", [Codec.INT8, Codec.RESIDUAL2])
def test_integers_are_not_approximated(codec: Codec) -> None:
    assert not cpu.approximates(codec)


@needs_quads
def test_an_approximation_of_something_else_is_refused() -> None:
    segment, other = pack(documents([3, 4], 16), Codec.FLOAT16), pack(documents([3, 5], 16), Codec.FLOAT16)
    query = queries(1, 2, 16)
    with pytest.raises(
        ValueError, match=r"approximation is of 2 documents, 8 tokens and dim 16; expected .*: 2, 7 and"
    ):
        search(query, segment, 1, approximation=approximate(other))
    integers = pack(documents([3, 4], 16), Codec.INT8)
    with pytest.raises(ValueError, match=r"approximation is given; expected None for int8 on cpu"):
        search(query, integers, 1, approximation=approximate(segment))
