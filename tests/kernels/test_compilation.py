"""Kernels compiled ahead of time, for an A100 (sm_80), an L4 (sm_89), an H100 or H200 (sm_90) and a B200 (sm_100).

That needs no GPU. What is compiled is what gpu/backend.py has compiled: the same constants, integers of any value, and
only those pointers aligned that are.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from compiled_kernels import NUMBERS, POINTERS, SHARED_MEMORY, register_use, spills_in_loops_that
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tridex.kernels import Codec
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.gpu import kernels, query_tile
from tridex.kernels.gpu.queries import prepare_queries
from tridex.kernels.gpu.query_tile import QueryTile, query_tiles

TF32 = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
HALVES = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
BYTES = "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32"
WGMMA = "wgmma.mma_async.sync.aligned.m64n"
TCGEN = "tcgen05.mma.cta_group::1.kind::"
INSTRUCTIONS = {
    80: {
        torch.float32: {TF32},
        torch.float16: {HALVES},
        torch.bfloat16: {HALVES.replace("f16", "bf16")},
        torch.float8_e4m3fn: {HALVES},
        torch.int8: {BYTES},
    },
    89: {
        torch.float16: {HALVES},
        torch.float8_e4m3fn: {"mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32"},
    },
    90: {
        torch.float32: {WGMMA + "k8.f32.tf32.tf32"},
        torch.float16: {WGMMA + "k16.f32.f16.f16"},
        torch.bfloat16: {WGMMA + "k16.f32.bf16.bf16"},
        torch.float8_e4m3fn: {WGMMA + "k32.f32.e4m3.e4m3"},
        torch.int8: {WGMMA + "k32.s32.s8.s8"},
    },
    100: {
        torch.float32: {TCGEN + "tf32"},
        torch.float16: {TCGEN + "f16"},
        torch.bfloat16: {TCGEN + "f16"},
        torch.float8_e4m3fn: {TCGEN + "f8f6f4"},
        torch.int8: {BYTES},  # triton 3.7.1 has no tcgen05 for it
    },
}
"""What multiplies, by the type of the operands; float32 is cut into two numbers of tf32 before."""

SCRATCH = {"p_keys", "p_merged", "p_least", "p_chunks", "p_ends", "p_sums", "p_counters"}
CALLERS = {"p_offsets", "p_live", "p_scales", "p_centroid_ids", "p_rows"} | SCRATCH
"""Tensors of the caller and parts of its workspace, of any alignment: a kernel that is specialised on it would be
compiled at request time."""

SEARCH, RESCORE, EXPLAIN = kernels.search_documents, kernels.score_candidates, kernels.explain_candidates
WIDE_AND_NARROW = [
    (Codec.FLOAT16, 48),
    (Codec.FLOAT16, 768),
    (Codec.INT8, 300),
    (Codec.RESIDUAL2, 48),
    (Codec.RESIDUAL4, 256),
    (Codec.FLOAT32, 200),
]


def tile_of(kernel: Any, codec: Codec, dim: int, capability: int) -> QueryTile:
    """The largest of a search, or the other operators' own."""
    if kernel is EXPLAIN:
        return query_tile.EXPLAIN
    return query_tiles(codec, dim, capability)[-1 if kernel is SEARCH else 0]


VARIANTS = [
    *(
        (SEARCH, codec, 128, tile, capability)
        for capability in (80, 90, 100)
        for codec in Codec
        for tile in query_tiles(codec, 128, capability)[: 1 if codec is Codec.BFLOAT16 else None]
    ),
    *(
        (kernel, codec, dim, tile_of(kernel, codec, dim, capability), capability)
        for kernel, codec, dim, capability in [
            *((kernel, codec, 128, 90) for kernel in (RESCORE, EXPLAIN) for codec in Codec),
            (RESCORE, Codec.INT8, 128, 80),
            (EXPLAIN, Codec.FLOAT16, 128, 80),
            (RESCORE, Codec.FLOAT8, 128, 100),
            (EXPLAIN, Codec.RESIDUAL2, 128, 100),
            *((SEARCH, codec, dim, capability) for capability in (80, 90) for codec, dim in WIDE_AND_NARROW),
            *((SEARCH, codec, 128, 89) for codec in (Codec.FLOAT16, Codec.FLOAT8)),
            (SEARCH, Codec.BFLOAT16, 768, 100),
            (SEARCH, Codec.FLOAT8, 256, 100),
            (SEARCH, Codec.RESIDUAL4, 256, 100),
            (SEARCH, Codec.FLOAT32, 200, 100),
        ]
    ),
]


def compiled_variant(kernel: Any, codec: Codec, dim: int, tile: QueryTile, capability: int) -> Any:
    constants = query_tile.constants(codec, dim, tile)
    if kernel is not EXPLAIN:
        constants |= {"BLOCK_DOCUMENTS": query_tile.BLOCK_DOCUMENTS, "LIST": query_tile.LIST}
    options = {name: constants.pop(name) for name in ("num_warps", "maxnreg")}
    queries = NUMBERS[DESCRIPTIONS[codec].operand]
    codes = "u8" if codec.residual_bits else queries
    if codec is Codec.FLOAT8 and capability < 89:
        queries, codes = "fp16", "u8"
    missing = set() if codec.layout.has_scales else {"p_scales"}
    if not codec.residual_bits:
        missing |= {"p_centroid_ids", "p_centroids", "p_bucket_weights"}
    constants |= dict.fromkeys(missing)
    return compiled(kernel, constants, options, {"p_queries": f"*{queries}", "p_codes": f"*{codes}"}, capability)


def compiled(
    kernel: Any,
    constants: dict[str, Any],
    options: dict[str, Any],
    types: dict[str, str],
    capability: int,
    callers: set[str] = CALLERS,
) -> Any:
    """Compiles a kernel as gpu/backend.py has it compiled."""
    signature, attributes = {}, {}
    for i, parameter in enumerate(kernel.params):
        if parameter.name in constants:
            signature[parameter.name] = "constexpr"
        elif parameter.name.startswith("p_"):
            signature[parameter.name] = (POINTERS | types)[parameter.name]
            aligned = parameter.name not in callers
            assert parameter.do_not_specialize_on_alignment != aligned, f"{parameter.name}: see CALLERS"
            if aligned:
                attributes[i,] = [["tt.divisibility", 16]]
        else:
            assert parameter.do_not_specialize, f"{parameter.name}: a new value would be compiled at request time"
            signature[parameter.name] = "fp32" if parameter.name == "step" else "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


@pytest.mark.parametrize(
    ("kernel", "codec", "dim", "tile", "capability"),
    VARIANTS,
    ids=[
        f"{kernel.__name__}-{codec.value}-{dim}-{tile.subtiles} subtiles-sm_{capability}"
        for kernel, codec, dim, tile, capability in VARIANTS
    ],
)
def test_a_variant_compiles_to_what_the_hardware_is_for(
    kernel: Any, codec: Codec, dim: int, tile: QueryTile, capability: int, tmp_path: Path
) -> None:
    variant = compiled_variant(kernel, codec, dim, tile, capability)
    assert_fits(variant, tile, capability, tmp_path / "cubin")
    ptx = variant.asm["ptx"]
    instructions = set(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync|tcgen05\.mma)[\w.:]*", ptx))
    instructions = {re.sub(rf"^{WGMMA}\d+", WGMMA, name) for name in instructions}
    assert instructions == INSTRUCTIONS[capability][DESCRIPTIONS[codec].operand]
    assert_addresses_are_64_bit(variant, kernel)


@pytest.mark.parametrize(("dim", "each_token"), [(768, False), (128, True)])
@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("codec", [Codec.FLOAT32, Codec.FLOAT8, Codec.INT8])
def test_what_makes_queries_ready_compiles(
    codec: Codec, capability: int, dim: int, each_token: bool, tmp_path: Path
) -> None:
    constants = query_tile.query_constants(codec, dim) | {"EACH_TOKEN": each_token}
    warps = constants.pop("num_warps")
    operand = torch.float16 if codec is Codec.FLOAT8 and capability < 89 else DESCRIPTIONS[codec].operand
    types = {"p_queries": "*u8", "p_mask": "*i8", "p_numbers": f"*{NUMBERS[operand]}"}
    callers = {"p_queries", "p_mask", "p_counters"}
    variant = compiled(prepare_queries, constants, {"num_warps": warps}, types, capability, callers)
    assert not register_use(variant, tmp_path / "cubin")["STACK"]


def assert_fits(variant: Any, tile: QueryTile, capability: int, cubin: Path) -> None:
    """No register spills in the loop over tiles, and as many programs find room together as the table says.

    What is kept for the next block of documents may wait in memory meanwhile.
    """
    used = register_use(variant, cubin)
    print(f"{used['REG']} registers, {used['STACK']} bytes spilled, {variant.metadata.shared} bytes of shared memory")
    assert not spills_in_the_loop_over_tiles(cubin)
    assert -(-used["REG"] // 8) * 8 * 32 * tile.warps * tile.programs <= query_tile.REGISTERS
    assert variant.metadata.shared * tile.programs <= SHARED_MEMORY[capability] - 1024 * (tile.programs - 1)


def spills_in_the_loop_over_tiles(cubin: Path) -> list[str]:
    """Those of the smallest loop that loads tiles (LDGSTS: past the registers)."""
    return min(spills_in_loops_that("LDGSTS", cubin), default=(0, []))[1]


def assert_addresses_are_64_bit(variant: Any, kernel: Any) -> None:
    """What is first added to a pointer argument is an int64: rows of queries, codes and centroids, numbers of a token,
    a document, a query or a program. Offsets within such a row may be int32.

    The counters, two for each group of queries, and the bucket weights are few.
    """
    origins: dict[str, str] = {}
    constants: set[str] = set()
    offsets: dict[str, set[str]] = {}
    for line in variant.asm["ttir"].splitlines():
        # Names of values come again in other regions: the last one above is meant.
        if reshaped := re.search(r"(%\w+) = tt\.(?:splat|broadcast|expand_dims|bitcast|reshape) (%\w+)", line):
            origins[reshaped[1]] = origins.get(reshaped[2], reshaped[2])
        elif constant := re.search(r"(%\w+) = arith.constant", line):
            constants.add(constant[1])
        elif added := re.search(r"(%\w+) = tt\.addptr (%\w+), (%\w+) .*, (?:tensor<[\dx]+x)?(i\d+)>? loc", line):
            result, base, offset, offset_type = added.groups()
            base = origins.get(base, base)
            origins[result] = base if offset in constants else result
            if offset not in constants:
                offsets.setdefault(base.removeprefix("%"), set()).add(offset_type)
    arguments = {parameter.name for parameter in kernel.params} & offsets.keys()
    assert arguments >= {"p_queries", "p_codes", "p_weights", "p_offsets", "p_live"}
    small = {name for name in arguments if offsets[name] != {"i64"}}
    assert small <= {"p_counters", "p_bucket_weights"}


AHEAD = """
import json, sys
from tridex import kernels
codec, capability, dim = json.loads(sys.argv[1])
kernels.compile_ahead(capability, dim, [kernels.Codec(codec)])
"""


def test_what_is_compiled_ahead_is_what_a_gpus_process_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, dim, capability = Codec.RESIDUAL4, 48, 80
    # Otherwise binaries hold the path of the checkout that first compiled them into the user's cache.
    monkeypatch.setenv("TRITON_DISABLE_LINE_INFO", "1")

    def compile_ahead() -> dict[Path, bytes]:
        argument = json.dumps([codec.value, capability, dim])
        variables = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", AHEAD, argument], env=variables, check=True)
        return {file: file.read_bytes() for file in tmp_path.rglob("*.cubin")}

    made = compile_ahead()
    tiles = query_tiles(codec, dim, capability)
    assert len(made) == len(tiles) + 6  # a search by each query tile, rescore, explain, and what makes queries ready:
    # for scores or for each token, with a mask or without one
    for kernel, tile in [(SEARCH, tiles[0]), (RESCORE, tiles[0]), (EXPLAIN, query_tile.EXPLAIN)]:
        assert compiled_variant(kernel, codec, dim, tile, capability).asm["cubin"] in made.values()
    assert compile_ahead() == made, "it was not found in the cache"
