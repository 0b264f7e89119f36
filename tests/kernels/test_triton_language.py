"""The Triton-language kernels on the CPU, under the interpreter, against the reference.

triton looks at TRITON_INTERPRET when it is imported, so the interpreted launch layer lives in a process of its own;
this one keeps the compiler (test_compilation.py). bfloat16 is only compiled: the interpreter's dot is wrong for it.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from tridex.kernels import Codec, Segment, launch, pack, pack_bitmap, ranking, reference

CODECS = [Codec.FLOAT32, Codec.FLOAT16]
LENGTHS = [0, 1, 15, 16, 17, 300, 64, 2]
INF = float("inf")


class Interpreted:
    """The launch layer in a process whose triton interprets."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def search(
        self, queries: torch.Tensor, segment: Segment, top_k: int, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._pool.submit(launch.search, queries, segment, top_k, mask).result()

    def rescore(self, queries: torch.Tensor, segment: Segment, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._pool.submit(launch.rescore, queries, segment, rows, mask).result()


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Interpreted]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            # torch then fills all that torch.empty returns with NaN and the largest integers.
            pool.submit(torch.use_deterministic_algorithms, True).result()
        poison = pool.submit(torch.empty, 3).result()
        assert poison.isnan().all()
        yield Interpreted(pool)


def documents(lengths: list[int], dim: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((length, dim), np.float32) / dim**0.5 for length in lengths]


def queries(batch: int, tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.arange(batch) * 11 % tokens + 1
    return torch.randn((batch, tokens, dim), generator=generator) / dim**0.5, torch.arange(tokens) < lengths[:, None]


def assert_close(scores: torch.Tensor, expected: torch.Tensor) -> None:
    """Inputs are rounded to the codec on both sides: what is left are float32 sums of dim products."""
    torch.testing.assert_close(scores.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("batch", "tokens", "dim"), [(1, 32, 128), (3, 7, 48), (2, 70, 16), (1, 33, 300)])
def test_search_and_rescore_agree_with_the_reference(
    interpreted: Interpreted, codec: Codec, batch: int, tokens: int, dim: int
) -> None:
    segment = pack(documents(LENGTHS, dim), codec)
    segment = segment.with_live(pack_bitmap(np.arange(len(LENGTHS)) != 3))
    query, mask = queries(batch, tokens, dim)
    scores, rows = interpreted.search(query, segment, 10, mask)
    expected_scores, expected_rows = reference.search(query, segment, 10, mask)
    assert_close(scores, expected_scores)
    assert torch.equal(rows, expected_rows)
    candidates = torch.tensor([[-1, 0, 3, 5, 5, 7, 8, 2**40]] * batch)
    assert_close(
        interpreted.rescore(query, segment, candidates, mask), reference.rescore(query, segment, candidates, mask)
    )
    assert torch.equal(interpreted.rescore(query, segment, rows, mask), scores)


def test_a_score_has_the_same_bits_in_every_batch_and_place(interpreted: Interpreted) -> None:
    docs = documents(LENGTHS, 32)
    query, mask = queries(3, 40, 32)
    rows = torch.arange(len(docs)).expand(3, -1)
    scores = interpreted.rescore(query, pack(docs, Codec.FLOAT16), rows, mask)
    backwards = interpreted.rescore(query, pack(docs[::-1], Codec.FLOAT16), rows, mask)
    assert torch.equal(backwards.flip(1), scores)
    for i, length in enumerate(mask.sum(dim=1).tolist()):
        alone = query[i : i + 1, :length]
        assert torch.equal(
            interpreted.rescore(alone, pack(docs, Codec.FLOAT16), rows[:1], mask[i : i + 1, :length])[0], scores[i]
        )


def test_ties_go_to_the_lower_row_across_blocks(interpreted: Interpreted) -> None:
    best, other = documents([1, 1], 16)
    count = launch.BLOCK_SELECT + 60
    segment = pack([other if row % 50 else best for row in range(count)], Codec.FLOAT16)
    query = torch.from_numpy(best)[None]
    winners = list(range(0, count, 50))
    top_k = len(winners) + 5
    _, rows = interpreted.search(query, segment, top_k, torch.ones(1, 1, dtype=torch.bool))
    assert rows[0].tolist() == [*winners, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("live", [[False] * 3, [True, False, False]], ids=["all dead", "only an empty one lives"])
def test_where_nothing_can_be_found_nothing_is(interpreted: Interpreted, live: list[bool]) -> None:
    segment = pack(documents([0, 5, 20], 16), Codec.FLOAT16).with_live(pack_bitmap(np.array(live)))
    query, mask = queries(2, 3, 16)
    scores, rows = interpreted.search(query, segment, 4, mask)
    assert scores.tolist() == [[-INF] * 4] * 2
    assert rows.tolist() == [[-1] * 4] * 2


def test_a_segment_without_documents_is_searched(interpreted: Interpreted) -> None:
    segment = Segment.from_numpy(Codec.FLOAT16, 16, np.empty((0, 32), np.uint8), np.zeros(1, np.int64))
    query, mask = queries(2, 3, 16)
    assert interpreted.search(query, segment, 2, mask)[1].tolist() == [[-1, -1]] * 2
    assert interpreted.rescore(query, segment, torch.zeros((2, 1), dtype=torch.int64), mask).tolist() == [[-INF]] * 2


def test_a_query_without_tokens_scores_zero_on_documents_with_tokens(interpreted: Interpreted) -> None:
    segment = pack(documents([3, 0, 2], 16), Codec.FLOAT16)
    query, _ = queries(1, 4, 16)
    scores, rows = interpreted.search(query, segment, 3, torch.zeros(1, 4, dtype=torch.bool))
    assert (scores.tolist(), rows.tolist()) == ([[0.0, 0.0, -INF]], [[0, 2, -1]])


def test_ranking_is_by_score_then_row() -> None:
    """The host's half of the sort keys; the device's half is covered by the tests above."""
    scores = torch.tensor([[2.0, -0.0, -3.5, 0.0, -INF, 2.0, 1e-45, -1e-45]])
    best, rows = ranking.best(ranking.sort_keys(scores, torch.arange(8)), 10)
    assert rows.tolist() == [[0, 5, 6, 1, 3, 7, 2, -1, -1, -1]]
    assert best[0, :7].tolist() == scores[0, rows[0, :7]].tolist()
