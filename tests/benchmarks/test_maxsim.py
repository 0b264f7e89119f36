"""The MaxSim benchmark on tiny shapes: every contender of a CPU, and what would make a figure silently wrong."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captured_calls import called_again
from late_interaction_kernels.reference import maxsim_residual_reference
from rich.console import Console

from benchmarks import maxsim, maxsim_contenders, maxsim_corpus, maxsim_gpu_contenders, publishing, timing
from benchmarks.maxsim_corpus import Corpus, Shape
from benchmarks.maxsim_parity import check_against_ours, check_against_reference, check_replays
from benchmarks.maxsim_table import tables
from benchmarks.roofline import Roofline
from tridex.kernels import Codec, reference, search_plan

CPU = torch.device("cpu")
CEILING = Roofline(1e11, {"float32": 1e12, "bfloat16": 2e12, "int8": 4e12})


@pytest.fixture(scope="module")
def corpora() -> list[Corpus]:
    pools = [maxsim_corpus.pool(codec, CPU, tokens=2048) for codec in Codec]
    shapes = (Shape("uniform", 20, 30, ragged=False), Shape("ragged", 20, 30, ragged=True))
    return [maxsim_corpus.corpus(shape, pools, math.inf) for shape in shapes]


def test_every_contender_of_a_cpu_agrees_and_is_timed() -> None:
    shapes = (Shape("uniform", 40, 30, ragged=False), Shape("ragged", 40, 30, ragged=True))
    limits = maxsim.Limits(tokens=2048, batched_tokens=2048, seconds=0)
    found = [row for rows in maxsim.measure(CPU, shapes, (1, 3), limits, CEILING, Console(quiet=True)) for row in rows]
    cells = {(row.job, row.shape, row.batch) for row in found}
    assert cells == {("search", s, b) for s in ("uniform", "ragged") for b in (1, 3)} | {
        ("rerank", "ragged", b) for b in (1, 8)
    }
    for cell in cells:
        of_cell = [row for row in found if (row.job, row.shape, row.batch) == cell]
        assert {row.library for row in of_cell} == {"tridex", "torch", "maxsim-cpu"}
        assert {row.precision for row in of_cell if row.library == "tridex"} == {codec.value for codec in Codec}
        assert {row.precision for row in of_cell if row.library == "torch"} == {"float32", "bfloat16"}
    for row in found:
        assert 0 < row.ms["p20"] <= row.ms["p50"] <= row.ms["p80"] < math.inf
        assert row.gb_per_s > 0 and row.tflop_per_s > 0 and row.roofline_percent > 0
    words = tables([asdict(row) for row in found])
    assert words.count("\n| 1 | residual2 | ") == 3
    assert not np.isnan([row.ms["p50"] for row in found]).any()


def test_corpora_hold_the_same_documents_in_every_codec(corpora: list[Corpus]) -> None:
    queries = maxsim_corpus.queries(1, CPU)
    for corpus in corpora:
        exact = reference.score(queries, corpus.segments[Codec.FLOAT32])
        for codec, segment in corpus.segments.items():
            # 32 similarities; two bits keep them to a tenth, another document would be off by ten times that.
            assert (reference.score(queries, segment) - exact).abs().max() < 32 * 0.1, codec
        part = corpus.first(7)
        for segment in part.segments.values():
            assert segment.documents == 7
        torch.testing.assert_close(reference.score(queries, part.segments[Codec.FLOAT32]), exact[:, :7])


def test_a_wrong_kernel_of_ours_is_not_timed(corpora: list[Corpus], monkeypatch: pytest.MonkeyPatch) -> None:
    check_against_reference(corpora[1])
    right = maxsim.kernels.rescore
    monkeypatch.setattr("tridex.kernels.rescore", lambda *arguments: right(*arguments) + 0.01)
    with pytest.raises(RuntimeError, match=r"tridex, float32: 0\.01"):
        check_against_reference(corpora[1])


def test_replays_are_measured_beside_launches_where_they_agree(
    corpora: list[Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no CUDA graph here: in its place the call is made again."""
    monkeypatch.setattr(search_plan, "_captured", lambda call, *_: (lambda: None, call()))
    monkeypatch.setattr(maxsim_contenders, "captured", lambda call: call)
    queries, rows = maxsim_corpus.queries(2, CPU), torch.arange(20).expand(2, -1)
    launched = list(maxsim_contenders.our_rerank(corpora[1], queries, rows))
    replayed = check_replays(maxsim_contenders.our_rerank_replayed(corpora[1], queries, rows), launched)
    assert [it.form for it in replayed] == ["rescore, replayed"] * len(Codec)
    plans = list(maxsim_contenders.our_search_replayed(corpora[1], queries))  # Nothing replays them.
    with pytest.raises(RuntimeError, match="tridex, search, replayed, float32: other results than launched"):
        check_replays(plans, list(maxsim_contenders.ours(corpora[1], queries)))
    monkeypatch.setattr(search_plan, "_captured", called_again)
    plans = check_replays(
        maxsim_contenders.our_search_replayed(corpora[1], queries), list(maxsim_contenders.ours(corpora[1], queries))
    )
    assert [it.precision for it in plans] == list(Codec)


def test_a_wrong_contender_is_not_timed(corpora: list[Corpus]) -> None:
    corpus = corpora[1]
    queries = maxsim_corpus.queries(2, CPU)
    contender = next(maxsim_contenders.torch_search(corpus, queries, Codec.FLOAT32))
    scores, rows = contender.call()
    check_against_ours(contender, (scores, rows), corpus, queries)
    with pytest.raises(RuntimeError, match="torch, padded einsum, ntq, float32"):  # Scores of other documents.
        check_against_ours(contender, (scores, rows.roll(1, dims=1)), corpus, queries)
    all_scores = reference.score(queries, corpus.segments[Codec.FLOAT32]).float()
    worst = all_scores.topk(10, largest=False)
    with pytest.raises(RuntimeError, match="torch, padded einsum, ntq, float32"):  # Right scores, not the best.
        check_against_ours(contender, (worst.values, worst.indices), corpus, queries)
    with pytest.raises(RuntimeError, match="nan off"):
        check_against_ours(contender, (scores * math.nan, rows), corpus, queries)


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_residual_codes_are_repacked_as_late_interaction_kernels_reads_them(
    corpora: list[Corpus], codec: Codec
) -> None:
    segment = corpora[0].segments[codec]
    book = segment.codebook
    assert book is not None and segment.centroid_ids is not None
    queries = maxsim_corpus.queries(1, CPU)
    shape = (segment.documents, -1)
    scores = maxsim_residual_reference(
        queries,
        segment.centroid_ids.long().view(shape),
        maxsim_gpu_contenders.plaid_residuals(segment).view(*shape, 128 * book.bits // 8),
        segment.offsets.diff(),
        book.directions(),
        book.step * book.bucket_weights.float(),
        book.bits,
        normalize=True,
    )
    expected = reference.score(queries, segment).float()
    torch.testing.assert_close(scores.view_as(expected), expected, atol=0.02, rtol=0)  # Ours rounds queries to int8.


def test_calls_take_turns() -> None:
    calls: list[str] = []
    times = timing.side_by_side([lambda: calls.append("a"), lambda: calls.append("b")], CPU, seconds=0)
    assert [len(values) for values in times] == [3, 3]
    assert calls == ["a", "b"] * 4


def test_roofline_is_the_slower_of_reading_and_computing() -> None:
    assert CEILING.seconds(Codec.FLOAT32, read=10**11, flops=10**12 // 2) == 1
    assert CEILING.seconds(Codec.INT8, read=10**10, flops=4 * 10**12) == 1
    assert CEILING.seconds(Codec.FLOAT8, read=0, flops=2 * 10**12) == 1  # bfloat16 holds e4m3's numbers.
    assert CEILING.seconds(Codec.FLOAT16, read=0, flops=10**12) == 1  # bfloat16 does not hold float16's.


def test_table_counts_no_less_precise_rival_and_shows_losses() -> None:
    ms = {"p20": 1, "p50": 2, "p80": 3}
    row = maxsim.Row("search", "s", 1, 1, 1, "tridex", "search", "float16", 3, ms, 220, 1, 1, 50)
    less = replace(row, library="other", precision="bfloat16", ms={"p20": 0.1, "p50": 0.1, "p80": 0.1})
    equal = replace(row, library="other", precision="float16", ms={"p20": 1, "p50": 1, "p80": 1})
    assert tables([asdict(it) for it in (row, less)]).endswith("| 50 % | - | - |")
    assert tables([asdict(it) for it in (row, less, equal)]).endswith("| 50 % | 1 (float16) | 0.50x |")
    replay = replace(row, form="search, replayed", ms=ms | {"p50": 1.25}, host_us=20, roofline_percent=80)
    assert tables([asdict(it) for it in (row, replay)]).endswith("| 50 % | 1.25 | 80 % | 220; 20 | - |")


def test_a_new_device_gets_its_place_in_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "benchmarks.md"
    docs.write_text("# Benchmarks\n\n## Kernels\n\nHow.\n\n## What falls short\n\nMuch.\n")
    monkeypatch.setattr(publishing, "RESULTS", tmp_path)
    for table in ("old", "new"):
        publishing.publish("some-device", {"rows": []}, table, ("torch",), section="Kernels", docs=docs)
    text = docs.read_text()
    assert "old" not in text and text.count("<!-- some-device -->") == 1
    assert text.index("How.") < text.index("new") < text.index("## What falls short")
    assert (tmp_path / "some-device.json").exists()
