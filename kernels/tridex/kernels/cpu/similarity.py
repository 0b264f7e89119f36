"""Products of packed token tiles with panels of query tokens, on one thread of a CPU; compiled by numba."""

# mypy: disable-error-code="untyped-decorator, no-untyped-call"
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .codes import IN_PLACE, Reading
from .compiled import compiled
from .register_tile import (
    FLOATS,
    HAS_PAIRS,
    HAS_QUADS,
    PAIRS,
    PANEL,
    QUADS,
    float_product,
    half_float_product,
    half_pair_product,
    half_quad_product,
    pair_product,
    quad_product,
)
from .token_tile import Tokens, TokenTile


class Queries(NamedTuple):
    """The unmasked tokens of queries, in panels. A group of queries has its own panels and its own documents."""

    panels: NDArray[np.uint32]
    """[panels, W, PANEL], zeros behind a group's last token."""
    starts: NDArray[np.int32]
    """[panels, PANEL], what the sums of integers start from."""
    scales: NDArray[np.float32]
    """[panels * PANEL], what a maximum is multiplied by."""
    lanes: NDArray[np.int64]
    """[queries, 2], each query's first lane and the one behind its last; lanes count on from panel to panel."""
    groups: NDArray[np.int64]
    """[groups, 4], each group's first and end panel, first and end query."""


def _take(_: Any, counter: Any) -> Any:
    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        p_counter = context.make_array(signature.args[0])(context, build, arguments[0]).data
        return build.atomic_rmw("add", p_counter, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), generate


take_number: Callable[..., int] = intrinsic(_take)
"""counter int64 [1]: the number it held, before it is counted up for all threads."""


@compiled
def multiply(
    reading: Reading,
    tokens: Tokens,
    tile: TokenTile,
    count: int,
    queries: Queries,
    p: int,
    half: bool,
    coming: NDArray[np.int64],
    coming_count: int,
) -> None:
    """The dot products of the tile's first `count` tokens with a panel, or with its first vector.

    Meanwhile the `coming` tokens are fetched, so that no register tile waits for memory.
    """
    words = tile.words
    if reading.loader == IN_PLACE:
        words = tokens.codes.reshape(-1).view(np.uint32).reshape((len(tokens.codes), queries.panels.shape[1]))
    arguments = (
        words,
        tile.places,
        count,
        queries.panels,
        p,
        queries.starts,
        tile.scales,
        tile.dots,
        tokens.codes,
        coming,
        coming_count,
    )
    if reading.words == FLOATS:
        if half:
            half_float_product(*arguments)
        else:
            float_product(*arguments)
    elif HAS_PAIRS and reading.words == PAIRS:
        if half:
            half_pair_product(*arguments)
        else:
            pair_product(*arguments)
    elif HAS_QUADS and reading.words == QUADS:
        if half:
            half_quad_product(*arguments)
        else:
            quad_product(*arguments)
    else:
        raise ValueError("reading.words is nothing that this CPU multiplies")
    if reading.words == FLOATS and len(tokens.scales):
        for t in range(count):
            for lane in range(PANEL):
                tile.dots[t, lane] *= tile.scales[t, 0]
