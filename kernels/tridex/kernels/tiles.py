"""Tile shapes of the device code: a static table, chosen by what the compiler says of it and not by a GPU's clock.

tests/kernels/test_compilation.py compiles all of it and looks: no register spills, and registers and shared memory
allow for the programs that are said to run together. docs/kernels.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton

from .codecs import Codec

SLICE = 32
"""Query tokens in a slice; most checkpoints' queries are one slice."""

BLOCK_DOCUMENTS = 32
"""Documents in a block at most: one for each lane of a warp, so that no warp waits for another to look one up."""

MERGE = {"CHUNK": 512, "OTHERS": 16, "num_warps": 16}
"""Of best_documents: one program for each query, so all the threads it can have."""

REGISTERS = 1 << 16
"""Of a multiprocessor."""


@dataclass(frozen=True)
class Panel:
    """A number of query slices that documents are multiplied with at a time."""

    slices: int
    warps: int
    programs: int
    """Programs of this panel that run together on a multiprocessor: one's loads hide behind another's products."""

    @property
    def registers(self) -> int:
        """What the compiler may give a thread so that all programs find room."""
        return min(REGISTERS // (32 * self.warps * self.programs) // 8 * 8, 255)


def panels(codec: Codec, dim: int, capability: int) -> tuple[Panel, ...]:
    """The panels for a codec, ascending.

    Residuals are multiplied twice and float32 by scalar instructions, so panels of 8 slices would spill. More than 128
    dimensions are multiplied a part at a time and queries loaded again for each, which leaves room for small panels
    alone. wgmma (sm_90) takes its operands from shared memory; elsewhere small panels need more registers too.
    """
    if codec is Codec.FLOAT32:
        there = (Panel(2, 8, 1), Panel(4, 8, 1))
        return there if dim <= 128 else there[:1]
    programs = 3 if 90 <= capability < 100 and dim <= 128 else 2
    small = (Panel(1, 4, 2 if codec.residual_bits else programs), Panel(2, 4, programs))
    larger = (Panel(4, 8, 1),) if codec.residual_bits else (Panel(4, 4, 2), Panel(8, 8, 1))
    return (*small, *larger) if dim <= 128 else small


def panel_of(codec: Codec, dim: int, capability: int, slices: int) -> Panel:
    """The smallest panel that holds a batch of so many slices, or else the largest: the more queries in a panel, the
    fewer times a document is read from L2."""
    there = panels(codec, dim, capability)
    return next((panel for panel in there if panel.slices >= slices), there[-1])


def constants(codec: Codec, dim: int, panel: Panel) -> dict[str, object]:
    """The kernels' constants and the compiler's options. A tile has 32 document tokens, 64 where they are the rows of
    products: a document costs a multiple of them in products, though not in memory.

    No tensor core keeps float32 exact: its products are scalar multiplications, on fewer dimensions at a time.
    """
    block_dim = min(max(triton.next_power_of_2(dim), 64 if codec.residual_bits else 32), 128)
    tokens, stages = (64, 3) if panel.slices == 1 else (32, 4)
    if codec is Codec.FLOAT32:
        block_dim, tokens, stages = 16, 16, 2
    return {
        "CODEC": codec.value,
        "DIM": dim,
        "BLOCK_DIM": block_dim,
        "SLICE": SLICE,
        "SLICES": panel.slices,
        "TOKENS": tokens,
        "TOKENS_AS_ROWS": panel.slices == 1,
        "STAGES": stages,
        "num_warps": panel.warps,
        "maxnreg": panel.registers,
    }


@cache
def capability_of(device: torch.device) -> int:
    """80, 90 or 100 and so on; what a CPU interprets is taken for sm_90."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@cache
def multiprocessors(device: torch.device) -> int:
    """As many as there are, and 1 where the kernels are interpreted."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
