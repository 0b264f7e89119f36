"""Query tiles and the other tile shapes of the device code.

A static table, chosen by what the compiler says of it and not by a GPU's clock.

tests/kernels/test_compilation.py compiles all of it and looks: no register spills, and registers and shared memory
allow for the programs that are said to run together. docs/kernels.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton

from tridex.kernels.codecs import Codec

from .codes import code_constants

SUBTILE = 32
"""Query tokens in a subtile; most checkpoints' queries are one subtile."""

BLOCK_DOCUMENTS = 32
"""Documents in a block at most: one for each lane of a warp, so that no warp waits for another to look one up."""

MERGE = {"CHUNK": 512, "OTHERS": 16, "num_warps": 16}
"""Of best_documents: one program for each query, so all the threads it can have."""

REGISTERS = 1 << 16
"""Of a multiprocessor."""


@dataclass(frozen=True)
class QueryTile:
    """Query subtiles, of one or more queries, that documents are multiplied with at a time."""

    subtiles: int
    warps: int
    programs: int
    """Programs of this query tile that run together on a multiprocessor: one's loads hide behind another's products."""

    @property
    def registers(self) -> int:
        """What the compiler may give a thread so that all programs find room."""
        return min(REGISTERS // (32 * self.warps * self.programs) // 8 * 8, 255)


def query_tiles(codec: Codec, dim: int, capability: int) -> tuple[QueryTile, ...]:
    """The query tiles for a codec, ascending.

    Residuals are multiplied twice and float32 by scalar instructions, so query tiles of 8 subtiles would spill. More
    than 128 dimensions are multiplied a block at a time and queries loaded again for each, which leaves room for small
    query tiles alone. wgmma (sm_90) takes its operands from shared memory; elsewhere small query tiles need more
    registers too.
    """
    if codec.description.operand == torch.float32:
        tiles = (QueryTile(2, 8, 1), QueryTile(4, 8, 1))
        return tiles if dim <= 128 else tiles[:1]
    programs = 3 if 90 <= capability < 100 and dim <= 128 else 2
    has_codebook = codec.description.has_codebook
    small = (QueryTile(1, 4, 2 if has_codebook else programs), QueryTile(2, 4, programs))
    larger = (QueryTile(4, 8, 1),) if has_codebook else (QueryTile(4, 4, 2), QueryTile(8, 8, 1))
    return (*small, *larger) if dim <= 128 else small


def query_tile_of(codec: Codec, dim: int, capability: int, subtiles: int) -> QueryTile:
    """The smallest query tile that holds a batch of so many subtiles, or else the largest.

    The more queries in a query tile, the fewer times a document is read from L2.
    """
    tiles = query_tiles(codec, dim, capability)
    return next((tile for tile in tiles if tile.subtiles >= subtiles), tiles[-1])


def constants(codec: Codec, dim: int, query_tile: QueryTile) -> dict[str, object]:
    """The kernels' constants and the compiler's options. A tile has 32 document tokens, 64 where they are the rows of
    products: a document costs a multiple of them in products, though not in memory.

    No tensor core keeps float32 exact: its products are scalar multiplications, on fewer dimensions at a time.
    """
    block_dim = min(max(triton.next_power_of_2(dim), 64 if codec.description.has_codebook else 32), 128)
    tokens, stages = (64, 3) if query_tile.subtiles == 1 else (32, 4)
    if codec.description.operand == torch.float32:
        block_dim, tokens, stages = 16, 16, 2
    return {
        **code_constants(codec),
        "DIM": dim,
        "BLOCK_DIM": block_dim,
        "SUBTILE": SUBTILE,
        "SUBTILES": query_tile.subtiles,
        "TOKENS": tokens,
        "TOKENS_AS_ROWS": query_tile.subtiles == 1,
        "STAGES": stages,
        "num_warps": query_tile.warps,
        "maxnreg": query_tile.registers,
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
