"""Which warps do what: the one table that says which codec, batch and device the Gluon kernels are for.

Everything else is served by the plain kernels (query_tile.py): other dims and devices, longer queries, smaller batches,
float32, rescore and explain. The shapes are those that were the fastest on an H200 in experiments with kernels of the
same roles, which took a table of chunks made before and had no top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

from tridex.kernels.codec import Codec
from tridex.kernels.gpu.query_tile import SUBTILE, QueryTile

DIM = 128

SUBTILES = 8
"""In a program. Batches that fill no more than half of it are faster in a smaller query tile."""

TOKENS = 128
"""In a tile of document tokens."""

LISTS = 2
HEAD = 4
"""Lists of chunks, and numbers in front of each (producer.py)."""

WARPS = 4
"""Of a consumer."""


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


def roles_of(codec: Codec, dim: int, capability: int) -> Roles | None:
    """The roles for batches of a codec on a device, or None where there are none."""
    return _ON_SM_90.get(codec) if capability == 90 and dim == DIM else None


def serves(roles: Roles, batch: int, query_tokens: int) -> bool:
    """Whether such a batch is one for them."""
    subtiles = -(-query_tokens // SUBTILE)
    return subtiles <= roles.subtiles and batch * subtiles > SUBTILES // 2
