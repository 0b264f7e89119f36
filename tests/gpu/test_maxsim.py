"""MaxSim on a GPU: every codec against the float64 reference, and what only a GPU can show."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import triton
from eventually import eventually
from maxsim_data import (
    LENGTHS,
    assert_close_for_its_magnitude,
    assert_powers_apart,
    documents,
    far_away,
    masks,
    of_magnitudes,
    packed,
    queries,
    residual_and_int8,
    rising,
)

from tridex.index import CollectionSpec, Document, Extra, Follower, Store
from tridex.kernels import (
    Codec,
    SearchPlan,
    Segment,
    explain,
    pack,
    pack_bitmap,
    reference,
    rescore,
    search,
    search_workspace_bytes,
    warm_up,
)
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.gpu import backend
from tridex.kernels.gpu.gluon import verdict
from tridex.kernels.gpu.gluon.roles import BATCHES, SINGLE_QUERIES, kernels_of, serves
from tridex.kernels.gpu.query_tile import capability_of


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """torch fills all that torch.empty returns with NaN and the largest integers: what a kernel leaves out is seen."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def close(values: torch.Tensor, expected: torch.Tensor, allowed: float) -> None:
    torch.testing.assert_close(values.cpu().double(), expected, rtol=0, atol=allowed)


@pytest.mark.parametrize(
    ("batch", "tokens", "dim"),
    [(1, 32, 128), (3, 7, 48), (8, 32, 128), (33, 32, 128), (64, 32, 96), (2, 512, 128), (2, 40, 304)],
)
@pytest.mark.parametrize("codec", Codec)
def test_search_rescore_and_explain_agree_with_the_reference(
    codec: Codec, batch: int, tokens: int, dim: int, device: torch.device
) -> None:
    lengths = LENGTHS * 5
    segment = packed(documents(lengths, dim), codec, device)
    segment = segment.with_live(pack_bitmap(np.arange(len(lengths)) % 7 != 3))
    query, mask = queries(batch, tokens, dim), masks(batch, tokens)
    allowed = tokens * DESCRIPTIONS[codec].gpu_tolerance
    expected = reference.score(query, segment, mask)
    deleted = torch.tensor([not reference.is_live(segment, row) for row in range(len(lengths))])
    expected[:, deleted] = float("-inf")

    scores, rows = search(query.to(device), segment, 60, mask.to(device))
    found = rows.cpu().clamp(min=0)
    close(scores[:, :50], expected.topk(50).values, allowed)
    close(scores, expected.gather(1, found).where(rows.cpu() >= 0, float("-inf")), allowed)
    assert all(len(set(some)) == len(some) for some in (ranked[ranked >= 0].tolist() for ranked in rows))
    assert torch.equal(rescore(query.to(device), segment, rows, mask.to(device)), scores)

    some = rows[:, ::7].contiguous()
    places, similarities = explain(query.to(device), segment, some, mask.to(device))
    expected_places, expected_similarities = reference.explain(query, segment, some.cpu(), mask)
    close(similarities, expected_similarities, DESCRIPTIONS[codec].gpu_tolerance)
    same = (places.cpu() == expected_places).double().mean()
    assert same > (0.999 if DESCRIPTIONS[codec].gpu_tolerance < 1e-3 else 0.9), (
        "only equals within the tolerance may change places"
    )


@pytest.mark.parametrize("codec", Codec)
def test_queries_of_any_magnitude_agree_with_the_reference(codec: Codec, device: torch.device) -> None:
    segment = packed(documents(LENGTHS, 32), codec, device)
    exponents = [[e] * 5 for e in range(-137, 128, 12)] + [[e, -e, 0, e // 2, 10] for e in range(-120, 121, 8)]
    query = of_magnitudes(exponents, 32, 3)
    longest = query.double().norm(dim=2).amax(dim=1, keepdim=True)
    scores, rows = search(query.to(device), segment, 9)
    expected = reference.score(query, segment).gather(1, rows.cpu())
    assert_close_for_its_magnitude(scores.cpu(), expected, longest, 5 * DESCRIPTIONS[codec].gpu_tolerance)
    assert torch.equal(rescore(query.to(device), segment, rows), scores)
    for k in (-20, 3, 100):
        exact = [min(e) + k >= -137 and max(e) + k <= 127 for e in exponents]
        other = (query[exact].double() * 2.0**k).float()
        others_scores, others_rows = search(other.to(device), segment, 9)
        assert torch.equal(others_rows, rows[exact])
        assert_powers_apart(scores[exact].cpu(), others_scores.cpu(), k)


@pytest.mark.parametrize("codec", Codec)
def test_a_score_has_the_same_bits_in_every_batch(codec: Codec, device: torch.device) -> None:
    segment = packed(documents(LENGTHS * 20, 128), codec, device)
    query = queries(64, 48, 128).to(device)
    lengths = torch.arange(64, device=device) * 5 % 48 + 1
    mask = torch.arange(48, device=device) < lengths[:, None]
    scores, rows = search(query, segment, 100, mask)
    for first, end in [(0, 1), (0, 2), (3, 7), (5, 21), (62, 64)]:
        some_scores, some_rows = search(query[first:end], segment, 100, mask[first:end])
        assert torch.equal(some_scores, scores[first:end])
        assert torch.equal(some_rows, rows[first:end])
    length = int(lengths[9])
    assert torch.equal(search(query[9:10, :length], segment, 100)[0][0], scores[9])
    assert torch.equal(rescore(query, segment, rows, mask), scores)


@pytest.mark.parametrize("dim", [48, 128, 304])
def test_float32_is_within_a_millionth_of_a_similarity(dim: int, device: torch.device) -> None:
    """Products of tf32 alone would be a hundred times as far off."""
    docs, query = documents([1, 40, 300, 64], dim), queries(3, 64, dim)
    query[0, :40] = torch.from_numpy(docs[1])  # similarities of 1
    segment, rows = packed(docs, Codec.FLOAT32, device), torch.arange(4).expand(3, -1).contiguous()
    _, similarities = explain(query.to(device), segment, rows.to(device))
    close(similarities, reference.explain(query, segment, rows)[1], 1e-6)


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_residual_codes_score_as_the_int8_numbers_that_they_stand_for(codec: Codec, device: torch.device) -> None:
    """To the last bit: sums are integers, whatever reads them."""
    residual, numbers = residual_and_int8(codec, device)
    query, mask = queries(3, 40, 128).to(device), masks(3, 40).to(device)
    scores, rows = search(query, residual, 12, mask)
    expected_scores, expected_rows = search(query, numbers, 12, mask)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows, expected_rows)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [(BATCHES, [(5, 32), (8, 32), (33, 9), (6, 64), (3, 128), (2, 90)]), (SINGLE_QUERIES, [(1, 32), (1, 17), (1, 1)])],
)
@pytest.mark.parametrize("codec", Codec)
def test_a_gluon_kernel_has_its_twins_bits(
    kind: str, shapes: list[tuple[int, int]], codec: Codec, device: torch.device
) -> None:
    kernel = kernels_of(codec, 128, capability_of(device)).get(kind)
    if kernel is None:
        pytest.skip("there is no Gluon kernel for it: of some codecs, and on an H100 or H200 alone")
    warm_up(device, 128, [codec])
    assert verdict.is_chosen(kind, device, codec)
    segment = packed(documents(LENGTHS * 100 + [9000], 128), codec, device)
    segment = segment.with_live(pack_bitmap(np.arange(segment.documents) % 5 != 3))
    served = [shape for shape in shapes if serves(kernel, *shape)]
    assert len(served) >= 3
    for batch, tokens in served:
        query, mask = queries(batch, tokens, 128).to(device), masks(batch, tokens).to(device)
        for top_k in (1, 10, 700):
            scores, rows = search(query, segment, top_k, mask)
            expected = backend.search_by(None, query, mask, segment, top_k)
            assert torch.equal(scores, expected[0])
            assert torch.equal(rows, expected[1])
        for candidates in (1, 1000, 20_000) if kind == SINGLE_QUERIES else ():  # Rescores of a batch are plain.
            some = torch.randint(-3, segment.documents + 3, (batch, candidates), device=device)
            assert torch.equal(
                rescore(query, segment, some, mask), backend.rescore_by(None, query, mask, segment, some)
            )


def test_a_search_of_many_documents_finds_what_torch_finds(device: torch.device) -> None:
    """300,000 documents: splits of many blocks, thresholds, the merge. Of equal scores the lower row comes first."""
    count, dim = 300_000, 64
    chance = torch.Generator(device).manual_seed(0)
    lengths = torch.randint(1, 40, (count,), generator=chance, device=device)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    # Few values, so that products and sums are exact and scores tie.
    tokens = torch.randint(-4, 5, (int(offsets[-1]), dim), generator=chance, device=device).half() / 8
    live = torch.randint(0, 2**31, (-(-count // 32),), generator=chance, device=device).int()
    segment = Segment(Codec.FLOAT16, dim, tokens.view(torch.uint8), offsets, live)
    query = torch.randint(-4, 5, (9, 32, dim), generator=chance, device=device).float() / 8
    similarities = tokens.float() @ query.flatten(0, 1).T
    best = torch.segment_reduce(similarities, "max", offsets=offsets, axis=0).view(count, 9, 32).sum(2).T
    bits = live[:, None] >> torch.arange(32, device=device) & 1
    best = best.masked_fill(bits.flatten()[:count] == 0, float("-inf"))
    for top_k in (1, 10, 1000):
        scores, rows = search(query, segment, top_k)
        expected_scores, expected_rows = best.sort(dim=1, descending=True, stable=True)
        assert torch.equal(scores, expected_scores[:, :top_k])
        assert torch.equal(rows, expected_rows[:, :top_k])


@pytest.mark.parametrize("top_k", [1, 40, 500])
def test_the_best_are_kept_when_every_document_is_better_than_the_last(top_k: int, device: torch.device) -> None:
    count = 60_000
    docs, query = rising(count)
    _, rows = search(query.to(device), pack(docs, Codec.FLOAT32, device), top_k)
    assert rows[0].tolist() == list(range(count - 1, count - 1 - top_k, -1))


@pytest.mark.parametrize("batch", [8, 1])
@pytest.mark.parametrize("codec", Codec)
def test_a_graph_that_was_captured_is_the_search(codec: Codec, batch: int, device: torch.device) -> None:
    """And after warm_up no call compiles anything or waits for the device."""
    warm_up(device, 128, [codec])
    segment = packed(documents(LENGTHS * 20, 128), codec, device)
    every = torch.full_like(segment.live, -1)
    bitmap = every.clone()
    segment = segment.with_live(bitmap)
    query, mask = queries(batch, 32, 128).to(device), masks(batch, 32).to(device)
    size = search_workspace_bytes(segment, batch, 32, 20)
    workspace = torch.full((size,), 0xFF, dtype=torch.uint8, device=device)

    def job() -> tuple[torch.Tensor, ...]:
        scores, rows = search(query, segment, 20, mask, workspace=workspace)
        return scores, rows, rescore(query, segment, rows, mask), *explain(query, segment, rows, mask)

    assert_neither_compiles_nor_waits(job)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = job()
    for seed, words in [(11, every), (12, pack_bitmap(np.arange(segment.documents) % 3 == 0).to(device))]:
        query.copy_(queries(batch, 32, 128, seed))
        bitmap.copy_(words)
        workspace.fill_(0xFF)
        graph.replay()
        replayed = [result.clone() for result in captured]
        for one, other in zip(replayed, job(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_queries_of_half_precision_are_searched_as_they_are(dtype: torch.dtype, device: torch.device) -> None:
    segment = packed(documents(LENGTHS * 20, 128), Codec.RESIDUAL2, device)
    warm_up(device, 128, [Codec.RESIDUAL2])
    for batch in (1, 8):
        query, mask = queries(batch, 32, 128).to(device, dtype), masks(batch, 32).to(device)
        assert_neither_compiles_nor_waits(partial(search, query, segment, 20, mask))
        expected = search(query.float(), segment, 20, mask)
        assert all(map(torch.equal, search(query, segment, 20, mask), expected))


def test_a_plan_is_the_search_of_up_to_its_shape(device: torch.device) -> None:
    segment = packed(documents(LENGTHS * 20, 128), Codec.INT8, device)
    plan = SearchPlan(segment, 8, 32, 20)
    thirds = pack_bitmap(np.arange(segment.documents) % 3 == 0).to(device)
    for batch, tokens, live in [(8, 32, None), (3, 20, thirds), (1, 32, None)]:
        query, mask = queries(batch, tokens, 128, batch).to(device), masks(batch, tokens, batch).to(device)
        expected = search(query, segment if live is None else segment.with_live(live), 20, mask)
        assert all(torch.equal(one, other) for one, other in zip(plan.search(query, mask, live), expected, strict=True))
    with pytest.raises(ValueError, match=r"queries is \[9, 32, 128\] .*; expected up to \[8, 32, 128\]"):
        plan.search(queries(9, 32, 128).to(device), masks(9, 32).to(device))


def test_plans_are_made_while_others_use_the_device(device: torch.device, tmp_path: Path) -> None:
    """As in a server: captured by one thread while others search, load and free memory; a search's bits stay."""
    store = Store(tmp_path)
    collection = store.create("c", CollectionSpec(64, Codec.INT8, "f" * 64))
    collection.upsert([Document(f"{i:04}", "", {}) for i in range(500)], documents(LENGTHS[1:] * 56, 64)[:500])
    warm_up(device, 64, [Codec.INT8])
    follower, stream = Follower(store, "c", device), torch.cuda.Stream(device)
    shapes = [(1, 32, 10), (2, 20, 10), (5, 64, 100), (8, 32, 16), (9, 32, 10)]
    asked = [(queries(batch, tokens, 64).to(device), masks(batch, tokens).to(device), k) for batch, tokens, k in shapes]
    with torch.cuda.stream(stream):  # The first to ask is the stream of the plans.
        expected = [follower.snapshot.search(*one) for one in asked]
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            with torch.cuda.stream(stream):
                while not done.is_set():
                    for one, wanted in zip(asked, expected, strict=True):
                        found = follower.snapshot.search(*one)
                        assert [r.ids for r in found] == [r.ids for r in wanted]
                        assert [r.scores.tolist() for r in found] == [r.scores.tolist() for r in wanted]
                        torch.empty(2**20, device=device).fill_(1.0)
        except BaseException as error:  # of any kind: a thread's own would be lost
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    slot = follower.snapshot.segments[0].plans

    def made() -> bool:
        follower.make(Extra.SEARCH_PLANS)
        return len(slot._plans) == 4 or bool(failures)

    try:
        for _ in range(3):
            eventually(made, within_s=300)
            slot.drop()
    finally:
        done.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def assert_neither_compiles_nor_waits(job: Callable[[], object]) -> None:
    compiled: list[object] = []
    with pytest.MonkeyPatch.context() as hooks:
        hooks.setattr(triton.knobs.runtime, "jit_post_compile_hook", lambda **variant: compiled.append(variant["repr"]))
        torch.cuda.set_sync_debug_mode("error")
        try:
            job()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert not compiled


@pytest.mark.parametrize(
    ("codec", "tokens"),
    [
        (Codec.FLOAT32, 2**24 + 1),
        (Codec.FLOAT16, 2**24 + 1),
        (Codec.FLOAT8, 2**25 + 1),
        (Codec.INT8, 2**25 + 1),
        (Codec.RESIDUAL4, 2**26 + 1),
        (Codec.RESIDUAL2, 2**27 + 1),
    ],
)
def test_tokens_past_4_gib_of_codes_are_found(codec: Codec, tokens: int, device: torch.device) -> None:
    """By every kernel that serves: batches of 1, 3 and 8 are three kernels' on an H100 or H200."""
    warm_up(device, 128, [codec])
    assert all(verdict.is_chosen(kind, device, codec) for kind in kernels_of(codec, 128, capability_of(device)))
    document = documents([37], 128)[0]
    segment, near = far_away(codec, tokens, document, device), packed([document], codec, device)
    for batch in (1, 3, 8):
        query, row = queries(batch, 32, 128).to(device), torch.ones((batch, 1), dtype=torch.int64, device=device)
        scores, rows = search(query, segment, 2)
        assert rows.tolist() == [[1, -1]] * batch
        assert torch.equal(scores[:, :1], rescore(query, near, row - 1))
        assert torch.equal(rescore(query, segment, row), scores[:, :1])
        assert torch.equal(explain(query, segment, row)[0], explain(query, near, row - 1)[0])


def test_a_query_that_is_not_a_number_harms_no_other(device: torch.device) -> None:
    segment = packed(documents(LENGTHS, 32), Codec.FLOAT16, device)
    query = queries(3, 8, 32).to(device)
    expected = search(query, segment, 5)
    query[1] = float("nan")
    scores, rows = search(query, segment, 5)
    for i in (0, 2):
        assert torch.equal(scores[i], expected[0][i])
        assert torch.equal(rows[i], expected[1][i])


def test_bad_arguments_are_refused(device: torch.device) -> None:
    segment, query = pack(documents([3], 16), Codec.FLOAT16, device), queries(1, 5, 16)
    size = search_workspace_bytes(segment, 1, 5, 1)
    with pytest.raises(ValueError, match=r"queries is .* on cpu; expected .* on cuda:0"):
        search(query, segment, 1)
    with pytest.raises(ValueError, match=rf"workspace is .* \[{size - 1}\] .*; expected .* \[{size} or more\]"):
        search(query.to(device), segment, 1, workspace=torch.empty(size - 1, dtype=torch.uint8, device=device))
    codes = torch.zeros(33, dtype=torch.uint8, device=device)[1:].view(1, 32)
    with pytest.raises(ValueError, match=r"codes starts at address \d+; expected a multiple of 16"):
        Segment(Codec.FLOAT16, 16, codes, torch.tensor([0, 1], device=device), segment.live)
