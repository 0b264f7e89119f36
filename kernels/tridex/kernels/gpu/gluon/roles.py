"""Which warps do what: the one table that says which codec, batch and device the Gluon kernels are for.

Searches of batches are for programs whose warps have roles (search.py); one query of up to a subtile, its search and
its rescore, is for programs of one warp (one_warp.py). Everything else is served by the plain kernels (query_tile.py):
other dims and devices, longer queries, smaller batches, float32, rescores of several queries, and explain. The shapes
are those that were the fastest on an H200 in experiments with kernels of the same roles, which took a table of chunks
made before and had no top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

from tridex.kernels.codec import Codec
from tridex.kernels.gpu.query_tile import REGISTERS, SUBTILE, QueryTile

DIM = 128

BATCHES = "batches"
SINGLE_QUERIES = "single queries"

SUBTILES = 8
"""In a program. Batches that fill no more than half of it are faster in a smaller query tile."""

TOKENS = 128
"""In a tile of document tokens."""

LISTS = 2
HEAD = 4
"""Lists of chunks, and numbers in front of each (producer.py, tiles.py)."""

WARPS = 4
"""Of a consumer."""

LANES = 32
"""Of a warp."""


@dataclass(frozen=True)
class Roles:
    """Of the warps of a program."""

    consumers: int
    """2 or 4, of a warpgroup each, beside one producer."""
    stages: int
    """Tiles of document tokens in shared memory."""
    consumer_registers: int
    producer_registers: int
    producer_warps: int = 4
    """4, or 8 where tokens are decoded."""

    @property
    def subtiles(self) -> int:
        """Of a consumer: a query has no more."""
        return SUBTILES // self.consumers

    @property
    def query_tile(self) -> QueryTile:
        """What one program is, to what cuts a search up."""
        return QueryTile(SUBTILES, TOKENS, WARPS * self.consumers, self.stages, programs=1)

    @property
    def constants(self) -> dict[str, object]:
        """search_batch's constants and the compiler's options."""
        return {
            "DIM": DIM,
            "CONSUMERS": self.consumers,
            "SUBTILES": self.subtiles,
            "TOKENS": TOKENS,
            "STAGES": self.stages,
            "PRODUCER_WARPS": self.producer_warps,
            "CONSUMER_REGISTERS": self.consumer_registers,
            "PRODUCER_REGISTERS": self.producer_registers,
            "num_warps": WARPS,
        }


_FLOATS = Roles(consumers=4, stages=4, consumer_registers=104, producer_registers=64)
_INTEGERS = Roles(consumers=2, stages=4, consumer_registers=216, producer_registers=72)
"""Integers become floats before their maxima are taken: four consumers spilled, and were a third slower."""
_RESIDUALS = Roles(consumers=2, stages=4, consumer_registers=176, producer_registers=80, producer_warps=8)
"""4 warps that decode were slower, by 18 % or more."""

_ON_SM_90 = {
    Codec.FLOAT16: _FLOATS,
    Codec.BFLOAT16: _FLOATS,
    Codec.FLOAT8: _FLOATS,
    Codec.INT8: _INTEGERS,
    Codec.RESIDUAL4: _RESIDUALS,
    Codec.RESIDUAL2: _RESIDUALS,
}


@dataclass(frozen=True)
class OneWarp:
    """Programs of one warp, which keeps a query of one subtile in its registers."""

    programs: int
    """That run together on a multiprocessor."""

    @property
    def registers(self) -> int:
        """What the compiler may give a thread so that all programs find room."""
        return REGISTERS // (LANES * self.programs) // 8 * 8

    @property
    def constants(self) -> dict[str, object]:
        """score_documents' constants and the compiler's options."""
        return {"DIM": DIM, "STAGES": 4, "num_warps": 1, "maxnreg": min(self.registers, 255)}


_ONE_WARP_ON_SM_90 = {
    Codec.FLOAT16: OneWarp(programs=6),
    Codec.BFLOAT16: OneWarp(programs=6),
    Codec.INT8: OneWarp(programs=13),
    Codec.RESIDUAL4: OneWarp(programs=12),
    Codec.RESIDUAL2: OneWarp(programs=12),
}
"""One program more or less, with more or fewer registers each, and residual codes took a fifth to a third longer on an
H200. mma.sync has no products of float8: it would be float16's, with other bits."""


def roles_of(codec: Codec, dim: int, capability: int) -> Roles | None:
    """The roles for batches of a codec on a device, or None where there are none."""
    return _ON_SM_90.get(codec) if capability == 90 and dim == DIM else None


def one_warp_of(codec: Codec, dim: int, capability: int) -> OneWarp | None:
    """The programs for a single query of a codec on a device, or None where there are none."""
    return _ONE_WARP_ON_SM_90.get(codec) if capability == 90 and dim == DIM else None


def kernels_of(codec: Codec, dim: int, capability: int) -> dict[str, Roles | OneWarp]:
    """The Gluon kernels for a codec on a device, by what they search: each proves itself, and is chosen, by itself."""
    found = {BATCHES: roles_of(codec, dim, capability), SINGLE_QUERIES: one_warp_of(codec, dim, capability)}
    return {kind: kernel for kind, kernel in found.items() if kernel is not None}


def serves(kernel: Roles | OneWarp, batch: int, query_tokens: int) -> bool:
    """Whether such a batch is one for the kernel."""
    subtiles = -(-query_tokens // SUBTILE)
    if isinstance(kernel, OneWarp):
        return batch * subtiles == 1
    return subtiles <= kernel.subtiles and batch * subtiles > SUBTILES // 2
