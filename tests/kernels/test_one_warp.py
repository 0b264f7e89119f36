"""Programs of one warp for single queries, without a GPU: the plain kernel's bits, and what the compiler makes of them."""

from __future__ import annotations

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

from tridex.kernels import Codec, pack_bitmap
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.gpu import query_tile, single_query
from tridex.kernels.gpu.codes import code_constants
from tridex.kernels.gpu.gluon.one_warp import score_documents
from tridex.kernels.gpu.gluon.roles import OneWarp, kernels_of, one_warp_of, serves


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            # torch then fills all that torch.empty returns with NaN and the largest integers.
            pool.submit(torch.use_deterministic_algorithms, True).result()
        yield pool


RAGGED = [0, 1, 31, 32, 33, 100, 63, 64, 65, 2] * 3
MANY = [1] * 150 + [0] * 70 + [40]


@pytest.mark.parametrize(
    ("codec", "lengths", "live", "tokens", "top_k", "programs"),
    [
        (Codec.FLOAT16, RAGGED, 0.7, 32, 10, 2),
        (Codec.INT8, RAGGED, 0.7, 20, 40, 3),
        (Codec.RESIDUAL4, RAGGED, 0.7, 32, 10, 2),
        (Codec.RESIDUAL2, RAGGED, 0.7, 32, 3, 1),
        (Codec.INT8, MANY, 0.7, 32, 300, 1),
        (Codec.FLOAT16, RAGGED, 0.0, 9, 10, 2),
        (Codec.INT8, [0], 1.0, 1, 1, 2),
    ],
    ids=[
        "float16",
        "int8, fewer documents than top_k",
        "residual4",
        "residual2, one program",
        "blocks of 32 documents",
        "no live document",
        "no token",
    ],
)
def test_programs_of_one_warp_have_the_plain_kernels_bits(
    interpreter: ProcessPoolExecutor,
    codec: Codec,
    lengths: list[int],
    live: float,
    tokens: int,
    top_k: int,
    programs: int,
) -> None:
    """Of multiples of 1/16, so that products are exact in any order: that of a device's is left to the device.

    The first documents come again at the end, and tie.
    """
    docs = [np.round(tokens_ * 16).astype(np.float32) / 16 for tokens_ in documents(lengths, 128)]
    docs += docs[:5]
    segment = packed(docs, codec).with_live(pack_bitmap(np.random.default_rng(0).random(len(docs)) < live))
    query = (queries(1, tokens, 128) * 16).round() / 16 + 1 / 16
    arguments = programs, query, segment, top_k, masks(1, tokens)
    plain, found = interpreter.submit(kernels.search_by_one_warp, *arguments).result()
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("top_k", "splits"), [(1, 1), (10, 3), (2000, 2), (6000, 4)])
def test_the_best_of_scores_are_in_order(interpreter: ProcessPoolExecutor, top_k: int, splits: int) -> None:
    """Buffers that fill up, ties, and documents without a score."""
    chance = torch.Generator().manual_seed(0)
    scores = torch.randint(-50, 50, (5 * single_query.CHUNK + 7,), generator=chance) / 8
    scores[torch.rand(scores.shape, generator=chance) < 0.3] = float("-inf")
    found_scores, found_rows = interpreter.submit(kernels.best_of_scores, scores, top_k, splits).result()
    expected, rows = scores.sort(descending=True, stable=True)
    missing = max(top_k - len(scores), 0)
    expected = torch.nn.functional.pad(expected[:top_k], (0, missing), value=float("-inf"))
    rows = torch.nn.functional.pad(rows[:top_k], (0, missing), value=-1)
    assert torch.equal(found_scores, expected)
    assert torch.equal(found_rows, rows.where(expected > float("-inf"), -1))


@pytest.mark.parametrize("codec", [Codec.FLOAT16, Codec.BFLOAT16, Codec.INT8, Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_the_kernel_compiles_to_what_the_hardware_is_for(codec: Codec, tmp_path: Path) -> None:
    """No register spills at all, and as many programs find room together as the table says."""
    kernel = one_warp_of(codec, 128, 90)
    assert kernel is not None
    variant = compiled(codec, kernel)
    used = register_use(variant, tmp_path / "cubin")
    print(f"{used['REG']} registers, {variant.metadata.shared} bytes of shared memory")
    assert used["STACK"] == used["LOCAL"] == 0
    assert -(-used["REG"] // 8) * 8 * 32 * kernel.programs <= query_tile.REGISTERS
    assert variant.metadata.shared * kernel.programs <= SHARED_MEMORY[90] - 1024 * (kernel.programs - 1)
    kind = {Codec.FLOAT16: "k16.row.col.f32.f16.f16.f32", Codec.BFLOAT16: "k16.row.col.f32.bf16.bf16.f32"}
    assert set(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync)[\w.]*", variant.asm["ptx"])) == {
        "mma.sync.aligned.m16n8" + kind.get(codec, "k32.row.col.satfinite.s32.s8.s8.s32")
    }
    [(_, spills)] = spills_in_loops_that("LDGSTS.E.BYPASS.128", tmp_path / "cubin")
    assert spills == []


def compiled(codec: Codec, kernel: OneWarp) -> Any:
    constants = {"CODES_PER_BYTE": code_constants(codec)["CODES_PER_BYTE"], **kernel.constants}
    options = {name: constants.pop(name) for name in ("num_warps", "maxnreg")}
    numbers = f"*{NUMBERS[DESCRIPTIONS[codec].operand]}"
    codes = "*u8" if codec.residual_bits else numbers
    types = POINTERS | {"p_queries": numbers, "p_codes": codes, "p_products": "*i32", "p_tickets": "*i32"}
    if not codec.layout.has_scales:
        constants["p_scales"] = None
    if not codec.residual_bits:
        constants |= dict.fromkeys(["p_centroid_ids", "p_products", "p_bucket_weights"])
    signature, attributes = {}, {}
    for i, parameter in enumerate(score_documents.params):
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
    source = GluonASTSource(score_documents, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


@pytest.mark.parametrize(
    ("codec", "dim", "capability"),
    [(Codec.FLOAT8, 128, 90), (Codec.FLOAT32, 128, 90), (Codec.INT8, 96, 90), (Codec.INT8, 128, 80)],
)
def test_there_is_no_kernel_for(codec: Codec, dim: int, capability: int) -> None:
    assert one_warp_of(codec, dim, capability) is None


@pytest.mark.parametrize("codec", Codec)
def test_one_kernel_serves_a_batch(codec: Codec) -> None:
    found = kernels_of(codec, 128, 90).values()
    for batch, tokens in [(1, 1), (1, 32), (1, 33), (2, 32), (5, 32), (64, 64)]:
        by = [kernel for kernel in found if serves(kernel, batch, tokens)]
        assert len(by) <= 1
        assert any(isinstance(kernel, OneWarp) for kernel in by) == (
            batch == 1 and tokens <= 32 and one_warp_of(codec, 128, 90) is not None
        )
