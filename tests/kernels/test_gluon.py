"""The Gluon kernels without a GPU: against their plain twins on the CPU, what the compiler makes of them, the choice.

Gluon does not run in the interpreter; gluon_on_cpu.py runs the kernel's Python with numpy for the language.
"""

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import interpreted_kernels as kernels
import numpy as np
import pytest
import torch
import triton
from compiled_kernels import NUMBERS, POINTERS, SHARED_MEMORY, register_use, spills_in_loops_that
from maxsim_data import documents, masks, packed, queries
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource

from tridex.kernels import Codec, Segment, pack, pack_bitmap, reference
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.gpu import probe, query_tile, single_query, single_search
from tridex.kernels.gpu.codes import code_constants
from tridex.kernels.gpu.gluon.roles import (
    BATCHES,
    LANES,
    SINGLE_QUERIES,
    OneWarp,
    Roles,
    kernels_of,
    one_warp_of,
    roles_of,
    serves,
)
from tridex.kernels.gpu.gluon.search import search_batch
from tridex.kernels.gpu.gluon.verdict import LAUNCHED, READY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            # torch then fills all that torch.empty returns with NaN and the largest integers.
            pool.submit(torch.use_deterministic_algorithms, True).result()
        yield pool


RAGGED = [0, 1, 15, 16, 17, 100, 31, 32, 33, 2] * 2
LONG = [70] * 9 + [8300] + [5] * 5


@pytest.mark.parametrize(
    ("codec", "lengths", "live", "batch", "tokens", "top_k", "splits"),
    [
        (Codec.FLOAT16, RAGGED, 0.8, 8, 32, 10, 2),
        (Codec.INT8, RAGGED, 0.8, 9, 20, 3, 2),
        (Codec.FLOAT16, LONG, 0.8, 5, 40, 30, 3),
        (Codec.INT8, [1] * 280, 0.8, 2, 100, 1, 1),
        (Codec.FLOAT16, RAGGED, 0.0, 8, 32, 10, 2),
        (Codec.INT8, [0], 1.0, 5, 32, 1, 2),
        (Codec.RESIDUAL4, RAGGED, 0.8, 8, 32, 10, 2),
        (Codec.RESIDUAL2, [70, 61] * 32, 0.9, 2, 128, 10, 1),
    ],
    ids=[
        "ragged documents",
        "two programs",
        "lists that end within a document, queries of two subtiles",
        "full buffers",
        "no live document",
        "no token",
        "residual codes",
        "residual codes in lists of several tiles, queries of four subtiles",
    ],
)
def test_the_kernel_has_its_twins_bits(
    interpreter: ProcessPoolExecutor,
    codec: Codec,
    lengths: list[int],
    live: float,
    batch: int,
    tokens: int,
    top_k: int,
    splits: int,
) -> None:
    """Of multiples of 1/16, so that products are exact in any order: that of a device's is left to the device.

    The first documents come again at the end, and tie.
    """
    docs = [np.round(tokens_ * 16).astype(np.float32) / 16 for tokens_ in documents(lengths, 128)]
    docs += docs[:5]
    segment = packed(docs, codec).with_live(pack_bitmap(np.random.default_rng(0).random(len(docs)) < live))
    query = (queries(batch, tokens, 128) * 16).round() / 16 + 1 / 16
    arguments = splits, query, segment, top_k, masks(batch, tokens)
    plain, found = interpreter.submit(kernels.search_by_roles, *arguments).result()
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("codec", "tokens"), [(Codec.INT8, 2**24 + 1), (Codec.RESIDUAL4, 2**25 + 1)])
def test_a_document_past_2_gib_is_read_from_where_it_is(
    interpreter: ProcessPoolExecutor, codec: Codec, tokens: int
) -> None:
    """A deleted one before it, of more bytes than 32 bits count, whose memory nobody touches."""
    document = np.round(documents([40], 128)[0] * 16).astype(np.float32) / 16
    arguments = codec, tokens, document, (queries(5, 32, 128) * 16).round() / 16, masks(5, 32)
    plain, found = interpreter.submit(kernels.search_far_away_by_roles, *arguments).result()
    assert found[1].tolist() == [[1, -1]] * 5
    assert torch.equal(found[0], plain[0])


@pytest.mark.parametrize("codec", [Codec.FLOAT16, Codec.FLOAT8, Codec.INT8, Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_the_kernel_compiles_to_what_the_hardware_is_for(codec: Codec, tmp_path: Path) -> None:
    """No register spills in the roles' loops over tiles; what is kept from block to block may wait in memory.

    A codec for each type that is multiplied, but for bfloat16, whose tiles are float16's.
    """
    roles = roles_of(codec, 128, 90)
    assert roles is not None
    variant = compiled(codec, roles)
    registers = register_use(variant, tmp_path / "cubin")["REG"]
    print(f"{registers} registers, {variant.metadata.shared} bytes of shared memory")
    warps = 4 * roles.consumers + roles.producer_warps
    assert registers * 32 * warps <= query_tile.REGISTERS
    of_roles = 4 * roles.consumers * roles.consumer_registers + roles.producer_warps * roles.producer_registers
    assert 32 * of_roles <= query_tile.REGISTERS
    assert variant.metadata.shared <= SHARED_MEMORY[90]
    ptx = variant.asm["ptx"]
    floats = {Codec.FLOAT16: "f32.f16.f16", Codec.FLOAT8: "f32.e4m3.e4m3"}
    operands = floats.get(codec, "s32.s8.s8")
    depth = 16 if codec is Codec.FLOAT16 else 32
    assert set(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync)[\w.]*", ptx)) == {
        f"wgmma.mma_async.sync.aligned.m64n128k{depth}.{operands}"
    }
    before_the_count, _, behind = ptx.partition("atom.global.gpu.acq_rel")
    assert behind
    assert "st.global" not in re.split(r"barrier\.sync\s+1;", before_the_count)[-1], "roles join at a barrier"
    consumers = sorted(spills_in_loops_that("GMMA", tmp_path / "cubin"))[: roles.consumers]
    assert [spills for _, spills in consumers] == [[]] * roles.consumers
    if codec.residual_bits:
        assert not re.search(r"cp\.async", ptx)
        _, producer = min(spills_in_loops_that("PRMT", tmp_path / "cubin"))
        assert not producer
    else:
        assert len(re.findall(r"cp\.async\.mbarrier\.arrive\.noinc", ptx)) == 1
        assert "cp.async.cg.shared.global [ " in ptx
        _, producer = min(spills_in_loops_that("LDGSTS", tmp_path / "cubin"))
        assert not producer


def compiled(codec: Codec, roles: Roles) -> Any:
    constants = {"CODES_PER_BYTE": code_constants(codec)["CODES_PER_BYTE"], **roles.constants}
    warps = constants.pop("num_warps")
    numbers = f"*{NUMBERS[DESCRIPTIONS[codec].operand]}"
    codes = "*u8" if codec.residual_bits else numbers
    types = POINTERS | {"p_queries": numbers, "p_codes": codes}
    if not codec.layout.has_scales:
        constants["p_scales"] = None
    if not codec.residual_bits:
        constants |= dict.fromkeys(["p_centroid_ids", "p_centroids", "p_bucket_weights"])
    signature, attributes = {}, {}
    for i, parameter in enumerate(search_batch.params):
        name = parameter.name
        if name in constants:
            signature[name] = "constexpr"
        elif name.startswith("p_"):
            signature[name] = types[name]
            if not parameter.do_not_specialize_on_alignment:
                attributes[i,] = [["tt.divisibility", 16]]
        else:
            assert parameter.do_not_specialize, f"{name}: a new value would be compiled at request time"
            signature[name] = "i32"
    source = GluonASTSource(search_batch, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})


@pytest.mark.parametrize(
    ("codec", "dim", "capability"),
    [
        (Codec.FLOAT32, 128, 90),
        (Codec.RESIDUAL2, 96, 90),
        (Codec.INT8, 96, 90),
        (Codec.INT8, 128, 80),
        (Codec.INT8, 128, 100),
    ],
)
def test_there_is_no_kernel_for(codec: Codec, dim: int, capability: int) -> None:
    assert roles_of(codec, dim, capability) is None


def test_which_batches_the_kernel_is_for() -> None:
    halves, integers = roles_of(Codec.FLOAT16, 128, 90), roles_of(Codec.INT8, 128, 90)
    assert halves is not None and integers is not None
    assert [batch for batch in range(1, 10) if serves(halves, batch, 32)] == [5, 6, 7, 8, 9]
    assert serves(halves, 3, 64) and not serves(halves, 3, 65)
    assert serves(integers, 2, 128) and not serves(integers, 64, 129)


def answers(_queries: torch.Tensor, _mask: torch.Tensor, _segment: Segment, top_k: int) -> kernels.Found:
    return torch.arange(top_k).float(), torch.arange(top_k)


def one_bit_off(*arguments: Any) -> kernels.Found:
    scores, rows = answers(*arguments)
    scores.view(torch.int32)[-1] ^= 1
    return scores, rows


def another_row(*arguments: Any) -> kernels.Found:
    scores, rows = answers(*arguments)
    return scores, rows.flip(0) + 1


@pytest.mark.parametrize("kernel", [one_bit_off, another_row])
def test_the_probe_fails_with_a_kernel_that_disagrees(kernel: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(probe.DisagreementError, match="8 queries of 32 tokens, top_k 10"):
        probe.compare_searches([pack(documents([3], 128), Codec.FLOAT16)], [(8, 32, 10)], answers, kernel)
    assert capsys.readouterr().out == f"{READY}\n{LAUNCHED}\n"


def test_the_probe_passes_with_a_kernel_that_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    probe.compare_searches([pack(documents([3], 128), Codec.FLOAT16)], [(8, 32, 10)], answers, answers)
    assert capsys.readouterr().out == f"{READY}\n{LAUNCHED}\n"


@pytest.mark.parametrize("agrees", [True, False])
def test_the_probe_of_a_single_query_rescores_too(agrees: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    small = pack(documents([3] * 3000, 128), Codec.INT8)
    seen: list[torch.Tensor] = []

    def rescore(kernel: OneWarp | None, _query: Any, _mask: Any, _segment: Any, rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows)
        return torch.ones(rows.shape) if kernel is None or agrees else torch.zeros(rows.shape)

    for segment in ("probe_segment", "distinct_segment"):
        monkeypatch.setattr(probe, segment, lambda *_: small)
    monkeypatch.setattr(probe.backend, "search_by", lambda *arguments: answers(*arguments[1:]))
    monkeypatch.setattr(probe.backend, "rescore_by", rescore)
    with contextlib.nullcontext() if agrees else pytest.raises(probe.DisagreementError):
        probe.compare(CPU, Codec.INT8, 128, SINGLE_QUERIES)
    assert {rows.shape[1] for rows in seen} == {300, 1, 3000}
    rows = max(seen, key=torch.numel)
    assert rows.min() < 0 and rows.max() >= small.documents and len(rows.unique()) < rows.numel()


@pytest.mark.parametrize(
    ("codec", "kind"),
    [
        (Codec.FLOAT8, BATCHES),
        (Codec.RESIDUAL2, BATCHES),
        (Codec.INT8, SINGLE_QUERIES),
        (Codec.RESIDUAL2, SINGLE_QUERIES),
    ],
)
def test_the_probe_has_what_kernels_get_wrong(codec: Codec, kind: str) -> None:
    kernel = kernels_of(codec, 128, 90)[kind]
    shapes = probe.shapes_of(kind, kernel)
    assert all(serves(kernel, batch, tokens) for batch, tokens, _ in shapes)
    longest = 1 if isinstance(kernel, OneWarp) else kernel.subtiles
    assert {-(-tokens // query_tile.SUBTILE) for _, tokens, _ in shapes} == set(range(1, longest + 1))
    segment = probe.probe_segment(CPU, codec, 128, probe.mixed_lengths(5000))
    lengths = segment.offsets.diff()
    assert lengths.min() == 0
    assert lengths.max() > 16 * query_tile.LIST
    assert 0.6 < np.mean([reference.is_live(segment, row) for row in range(segment.documents)]) < 0.7
    if segment.centroid_ids is not None:
        assert segment.centroid_ids.min() < 0, "the ids are those of signed numbers"
    batch, tokens, _ = shapes[0]
    _, mask = probe.probe_queries(CPU, batch, tokens, 128)
    assert batch == 1 or not mask[-1].any()
    assert 0 < mask[: max(batch - 1, 1)].float().mean() < 1


@pytest.mark.parametrize("codec", [Codec.FLOAT16, Codec.RESIDUAL2])
def test_the_probe_has_many_tokens_that_are_all_others(codec: Codec) -> None:
    segment = probe.distinct_segment(CPU, codec, 128)
    assert segment.documents == 20_000 and segment.tokens > 400_000
    factors = torch.randint(2**62, (segment.codes.shape[1] // 8,), generator=torch.Generator().manual_seed(0))
    assert len((segment.codes.view(torch.int64) * factors).sum(1).unique()) == segment.tokens
    if segment.centroid_ids is not None and segment.codebook is not None:
        assert segment.centroid_ids.int().bitwise_and(0xFFFF).max() < len(segment.codebook.centroids)


def test_the_probe_of_a_single_query_has_full_blocks_and_several_steps_of_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On an H100 or H200, also with the most programs."""
    monkeypatch.setattr(single_search, "multiprocessors", lambda _device: 132)
    segment = probe.probe_segment(CPU, Codec.INT8, 128, probe.short_lengths())
    kernel = one_warp_of(Codec.INT8, 128, 90)
    assert kernel is not None
    plan = single_search.plan_single(kernel, segment, 10)
    assert plan.cut.block_documents == LANES
    assert plan.capacity < plan.share
    assert plan.share > 2 * single_query.SCORES_AT_A_TIME
