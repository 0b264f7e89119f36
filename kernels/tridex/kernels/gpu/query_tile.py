"""Query tiles and the other tile shapes of the device code: the one table that says which tile serves which codec,
batch and device.

Where an H200 measured a shape, it is that one; the others follow what the compiler says of them.
tests/kernels/test_compilation.py compiles all of it and looks: no register spills, and registers and shared memory
allow for the programs that are said to run together. docs/kernel-tables.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton

from tridex.kernels.codec import Codec
from tridex.kernels.codecs import DESCRIPTIONS

from .codes import code_constants

SUBTILE = 32
"""Query tokens in a subtile; most checkpoints' queries are one subtile."""

BLOCK_DOCUMENTS = 64
"""Documents in a block at most: with 68 tokens each 320 chunks, so that what a block costs before its first tile is two
hundredths of what its tiles do."""

LIST = 512
"""Chunks that a program lists at a time."""

_NUMBERS_AT_A_TIME = 4096
"""Of queries that are made ready: 16 for each thread."""

REGISTERS = 1 << 16
"""Of a multiprocessor."""


@dataclass(frozen=True)
class QueryTile:
    """Query subtiles, of one or more queries, and the document tokens that they are multiplied with at a time."""

    subtiles: int
    """As many as warps, or half as many (documents.py)."""
    tokens: int
    """Document tokens: 64 or 128."""
    warps: int
    stages: int
    """Tiles of document tokens that are on their way."""
    programs: int
    """Programs of this query tile that run together on a multiprocessor: one's loads and maxima hide behind another's
    products."""

    @property
    def registers(self) -> int:
        """What the compiler may give a thread so that all programs find room."""
        return min(REGISTERS // (32 * self.warps * self.programs) // 8 * 8, 255)


_HALVES = (QueryTile(2, 64, 4, 3, 4), QueryTile(4, 128, 4, 3, 2), QueryTile(8, 64, 8, 4, 2))
_ON_SM_90 = {
    "float32": (QueryTile(2, 64, 4, 2, 2),),
    "float16": _HALVES,
    "bfloat16": _HALVES,
    "float8_e4m3": (QueryTile(2, 128, 4, 4, 4), QueryTile(4, 128, 4, 4, 2)),
    "int8": (QueryTile(2, 128, 4, 4, 4), QueryTile(4, 128, 4, 4, 2)),
    "buckets_4_bits": (QueryTile(2, 64, 4, 3, 3), QueryTile(4, 64, 4, 4, 2)),
    "buckets_2_bits": (QueryTile(2, 64, 4, 3, 3), QueryTile(4, 64, 4, 4, 2)),
}

_ELSEWHERE = (QueryTile(2, 64, 4, 3, 2), QueryTile(4, 64, 4, 3, 2))
"""Not measured. mma.sync (sm_80) takes its operands from registers."""
_WITH_100_KIB = (QueryTile(2, 64, 4, 3, 2), QueryTile(4, 64, 8, 3, 1))
"""sm_86 to sm_89 and sm_120 on: 100 KiB of shared memory hold one program of 128 rows. Not measured."""
_LARGE = (QueryTile(2, 64, 4, 2, 2),)
"""Of numbers that take much room: float32's, and those of more than 128 dimensions. 8 warps for float32 compile to
nothing for sm_100 (triton 3.7.1)."""
_FLOAT32_BEFORE_SM_90 = (QueryTile(2, 64, 4, 2, 1),)
"""Shared memory holds no second program."""

EXPLAIN = QueryTile(2, 64, 4, 2, 1)
"""Of explain, for every codec: where each maximum stands takes registers and shared memory, and it is asked for few
documents."""


def query_tiles(codec: Codec, dim: int, capability: int) -> tuple[QueryTile, ...]:
    """The query tiles for a codec, ascending.

    Where there are more than 128 dimensions, queries are loaded again for each block of them, which leaves room for a
    small one alone.
    """
    codes = str(code_constants(codec)["CODES"])
    if dim > 128:
        return _LARGE
    if 90 <= capability < 100:
        return _ON_SM_90[codes]
    if codes == "float32":
        return _LARGE if capability >= 100 else _FLOAT32_BEFORE_SM_90
    return _WITH_100_KIB if 80 < capability < 90 or capability >= 120 else _ELSEWHERE


def query_tile_of(codec: Codec, dim: int, capability: int, subtiles: int) -> QueryTile:
    """The smallest query tile that holds a batch of so many subtiles, or else the largest.

    The more queries in a query tile, the fewer times a document is read from L2.
    """
    tiles = query_tiles(codec, dim, capability)
    return next((tile for tile in tiles if tile.subtiles >= subtiles), tiles[-1])


def constants(codec: Codec, dim: int, query_tile: QueryTile) -> dict[str, object]:
    """The kernels' constants and the compiler's options.

    float32 is multiplied a few dimensions at a time: cut in two (similarity.py), it takes twice its room.
    """
    block_dim = min(max(triton.next_power_of_2(dim), 64 if codec.layout.has_codebook else 32), 128)
    if DESCRIPTIONS[codec].operand == torch.float32:
        block_dim = 32
    return {
        **code_constants(codec),
        "DIM": dim,
        "BLOCK_DIM": block_dim,
        "SUBTILE": SUBTILE,
        "SUBTILES": query_tile.subtiles,
        "WARPS": query_tile.warps,
        "TOKENS": query_tile.tokens,
        "STAGES": query_tile.stages,
        "num_warps": query_tile.warps,
        "maxnreg": query_tile.registers,
    }


def query_constants(codec: Codec, dim: int) -> dict[str, object]:
    """prepare_queries' constants and the compiler's options."""
    width = triton.next_power_of_2(dim)
    return {
        "FLOAT8": DESCRIPTIONS[codec].operand == torch.float8_e4m3fn,
        "DIM": dim,
        "WIDTH": width,
        "TOKENS": max(min(_NUMBERS_AT_A_TIME // width, SUBTILE), 1),
        "SUBTILE": SUBTILE,
        "num_warps": 8,
    }


_stood_for = 90


def stand_for(capability: int) -> None:
    """Sets what a CPU stands for, where its tensors are compiled for and not interpreted (ahead.py)."""
    global _stood_for  # noqa: PLW0603
    _stood_for = capability
    capability_of.cache_clear()


@cache
def capability_of(device: torch.device) -> int:
    """80, 90 or 100 and so on; what a CPU interprets is taken for sm_90."""
    if device.type != "cuda":
        return _stood_for
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@cache
def multiprocessors(device: torch.device) -> int:
    """As many as there are, and 1 where the kernels are interpreted."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
