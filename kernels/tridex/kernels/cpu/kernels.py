"""MaxSim's loops on one thread of a CPU, compiled by numba; any number of threads share the work.

The tokens of many documents stand in a packed token tile, so that documents of a few tokens fill the register tiles as
well as long ones do. A tile's dot products with a panel of query tokens stay in cache, and each document's maxima are
taken from there, which costs 2 % of float32's products. A tile is planned one ahead, so that its codes are on their
way from memory while the tile before it is multiplied. Threads take blocks of documents from a shared counter: one that
lost its core holds up nobody, and Python's lock is taken once per search, not once per block.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-call"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .codes import IN_PLACE, Reading
from .compiled import compiled
from .register_tile import LANES, PANEL, fold, half_fold
from .similarity import Queries, multiply, take_number
from .token_tile import TILE_TOKENS, Tokens, empty_tile, load_tokens


class _Plan(NamedTuple):
    """Which tokens come into a tile: pieces of documents, back to back."""

    tokens: NDArray[np.int64]
    """[TILE_TOKENS], of the segment."""
    starts: NDArray[np.int64]
    """[TILE_TOKENS], where in the tile each piece starts."""
    ends: NDArray[np.int64]
    """[TILE_TOKENS], and where it ends."""
    columns: NDArray[np.int64]
    """[TILE_TOKENS], the place of each piece's document in `rows`."""
    counts: NDArray[np.int64]
    """[4], tokens, pieces, documents that end in the tile, and whether the first started in an earlier one."""


@compiled
def _empty_plan() -> _Plan:
    return _Plan(
        np.zeros(TILE_TOKENS, np.int64),
        np.zeros(TILE_TOKENS, np.int64),
        np.zeros(TILE_TOKENS, np.int64),
        np.zeros(TILE_TOKENS, np.int64),
        np.zeros(4, np.int64),
    )


@compiled
def _plan_tile(
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    end_column: int,
    cursor: NDArray[np.int64],
    scores: NDArray[np.float32],
    plan: _Plan,
) -> None:
    """Fills a plan from the cursor on: [2], a document's place in `rows`, and its tokens that are already taken."""
    column, taken = cursor
    filled, pieces = 0, 0
    plan.counts[3] = taken > 0
    while filled < TILE_TOKENS and column < end_column:
        row = rows[column]
        token, end = (offsets[row] + taken, offsets[row + 1]) if row >= 0 else (0, 0)
        count = min(TILE_TOKENS - filled, end - token)
        if count > 0:
            for j in range(count):
                plan.tokens[filled + j] = token + j
            plan.starts[pieces], plan.ends[pieces], plan.columns[pieces] = filled, filled + count, column
            pieces += 1
            filled += count
        else:
            scores[:, column] = -np.inf
        if token + count >= end:
            column, taken = column + 1, 0
        else:
            taken += count
    plan.counts[0], plan.counts[1], plan.counts[2] = filled, pieces, pieces - (taken > 0)
    cursor[0], cursor[1] = column, taken


@compiled
def score_blocks(
    reading: Reading,
    tokens: Tokens,
    offsets: NDArray[np.int64],
    queries: Queries,
    rows: NDArray[np.int64],
    blocks: NDArray[np.int64],
    counter: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Fills scores [queries, n] for each group's documents rows [groups, n], until the counter has passed all blocks.

    blocks: [blocks, 3], group, first and end document. Row -1 and a document without tokens score -inf.
    """
    tile = empty_tile(queries.panels.shape[1], reading.loader == IN_PLACE)
    plan, following = _empty_plan(), _empty_plan()
    maxima = np.empty((len(queries.panels), TILE_TOKENS, PANEL), np.float32)
    cursor = np.zeros(2, np.int64)
    while True:
        block = take_number(counter)
        if block >= len(blocks):
            return
        group, first_column, end_column = blocks[block]
        first_panel, end_panel, first_query, end_query = queries.groups[group]
        last_lane = queries.lanes[end_query - 1, 1]
        targets = scores[first_query:end_query]
        cursor[0], cursor[1] = first_column, 0
        _plan_tile(offsets, rows[group], end_column, cursor, targets, following)
        while following.counts[0]:
            plan, following = following, plan
            _plan_tile(offsets, rows[group], end_column, cursor, targets, following)
            count, pieces, complete, continued = plan.counts
            for i in range(pieces):
                at = plan.starts[i]
                load_tokens(reading, tokens, plan.tokens[at], plan.ends[i] - at, tile, at)
            for p in range(first_panel, end_panel):
                half = last_lane - p * PANEL <= LANES
                coming_count = following.counts[0] if p == first_panel else 0
                multiply(reading, tokens, tile, count, queries, p, half, following.tokens, coming_count)
                for i in range(pieces):
                    if i > 0 or not continued:
                        for lane in range(PANEL):
                            maxima[p, i, lane] = -np.inf
                    if half:
                        half_fold(tile.dots, plan.starts[i], plan.ends[i], maxima[p], i)
                    else:
                        fold(tile.dots, plan.starts[i], plan.ends[i], maxima[p], i)
            for i in range(complete):
                for q in range(first_query, end_query):
                    score = np.float32(0)
                    for lane in range(queries.lanes[q, 0], queries.lanes[q, 1]):
                        score += maxima[lane // PANEL, i, lane % PANEL] * queries.scales[lane]
                    scores[q, plan.columns[i]] = score
            if complete < pieces and pieces > 1:
                for p in range(first_panel, end_panel):
                    for lane in range(PANEL):
                        maxima[p, 0, lane] = maxima[p, pieces - 1, lane]


@compiled
def explain_rows(
    reading: Reading,
    tokens: Tokens,
    offsets: NDArray[np.int64],
    queries: Queries,
    rows: NDArray[np.int64],
    nearest: NDArray[np.int64],
    similarities: NDArray[np.float32],
) -> None:
    """Of each lane's document tokens the nearest, the lowest on ties, and its similarity: both [lanes, n].

    rows: [groups, n], -1 for none; nearest and similarities are -1 and -inf where a row has no tokens.
    """
    tile = empty_tile(queries.panels.shape[1], reading.loader == IN_PLACE)
    for group in range(len(rows)):
        first_panel, end_panel, _, _ = queries.groups[group]
        for column in range(rows.shape[1]):
            row = rows[group, column]
            first, end = (offsets[row], offsets[row + 1]) if row >= 0 else (0, 0)
            nearest[first_panel * PANEL : end_panel * PANEL, column] = -1
            similarities[first_panel * PANEL : end_panel * PANEL, column] = -np.inf
            for token in range(first, end, TILE_TOKENS):
                count = min(TILE_TOKENS, end - token)
                load_tokens(reading, tokens, token, count, tile, 0)
                for p in range(first_panel, end_panel):
                    multiply(reading, tokens, tile, count, queries, p, False, tile.places, 0)
                    for t in range(count):
                        for lane in range(PANEL):
                            if tile.dots[t, lane] > similarities[p * PANEL + lane, column]:
                                similarities[p * PANEL + lane, column] = tile.dots[t, lane]
                                nearest[p * PANEL + lane, column] = token + t - first
    similarities *= queries.scales.reshape(-1, 1)
