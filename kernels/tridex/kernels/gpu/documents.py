"""Maxima and sums over documents: device code.

A tile is TOKENS neighbouring tokens of one document. A document's last tile repeats its last token, which changes no
maximum, needs no mask and reads nothing new. So a document of 68 tokens costs 96 in products (128 in tiles of 64) and
68 in memory, whatever the longest one has, and what is deleted or filtered out has no tiles at all. The tiles of a
block of documents are one loop, so that the tokens of the next document are on their way before the last one is done.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

from .similarity import similarities


@triton.jit
def query_tile_rows(first_query, end_query, subtiles, query_tile, SUBTILE: tl.constexpr, SUBTILES: tl.constexpr):
    """A query tile's rows: where in [queries * subtiles * SUBTILE] each query token lies.

    A query tile holds as many whole queries as it can, or else subtiles of one query; either lies in memory as it
    stands in the query tile. Rows behind it repeat a row.
    """
    first = (first_query.to(tl.int64) * subtiles + query_tile * SUBTILES) * SUBTILE
    lane = tl.arange(0, SUBTILES * SUBTILE)
    positions = first + lane
    if SUBTILES > 1:  # A query tile of one subtile has no rows behind it, and the compiler no registers left.
        positions = tl.where(
            lane < ((end_query - first_query) * subtiles - query_tile * SUBTILES) * SUBTILE, positions, 0
        )
    return positions


@triton.jit
def query_tile_weights(
    p_weights, first_query, end_query, subtiles, query_tile, SUBTILE: tl.constexpr, SUBTILES: tl.constexpr
):
    """What the maxima of a query tile's rows are multiplied by: 0 where a query token does not count, or there is none.

    Read at each document's end: kept from tile to tile, they made some variants spill.
    """
    first = (first_query.to(tl.int64) * subtiles + query_tile * SUBTILES) * SUBTILE
    lane = tl.arange(0, SUBTILES * SUBTILE)
    own = lane < ((end_query - first_query) * subtiles - query_tile * SUBTILES) * SUBTILE
    return tl.load(p_weights + (first + lane), mask=own, other=0.0)


@triton.jit
def document_spans(p_offsets, p_live, rows, wanted):
    """Where documents start and how many tokens they have: int64 and int32, 0 tokens if not live or not
    wanted."""
    words = tl.load(p_live + rows // 32, mask=wanted, other=0)
    live = wanted & (((words >> (rows & 31).to(tl.int32)) & 1) != 0)
    starts = tl.load(p_offsets + rows, mask=live, other=0)
    return starts, (tl.load(p_offsets + rows + 1, mask=live, other=0) - starts).to(tl.int32)


@triton.jit
def _sums_of_subtiles(values, SUBTILE: tl.constexpr):
    """[subtiles * SUBTILE] to [subtiles].

    Always two at a time: a sum of two has the same bits in every layout of the numbers in registers, and the layout
    depends on the size of the query tile.
    """
    tl.static_assert(SUBTILE == 32)
    sums = tl.reshape(values, [values.shape[0] // SUBTILE, 2, 2, 2, 2, 2])
    for _ in tl.static_range(5):
        sums = tl.sum(sums, axis=1)
    return sums


@triton.jit
def block_scores(
    starts,
    lengths,
    first_query,
    end_query,
    subtiles,
    p_queries,
    p_weights,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    CODES: tl.constexpr,
    CODES_PER_BYTE: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUBTILE: tl.constexpr,
    SUBTILES: tl.constexpr,
    TOKENS: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The scores of the queries from first_query on with a block of documents: fp32 [SUBTILES, documents].

    starts, lengths: of the documents. The first SUBTILES / (subtiles of a query) rows are those queries' scores, at
    most up to end_query. A document without tokens scores 0 here. The subtiles of a query are added in their order.
    """
    token_axis: tl.constexpr = 0 if TOKENS_AS_ROWS else 1
    shape: tl.constexpr = (TOKENS, SUBTILES * SUBTILE) if TOKENS_AS_ROWS else (SUBTILES * SUBTILE, TOKENS)
    tiles = tl.cdiv(lengths, TOKENS)
    ends = tl.cumsum(tiles)
    begins = ends - tiles
    per_tile = tl.minimum(subtiles, SUBTILES)
    index = tl.arange(0, SUBTILES)
    scores = tl.zeros([SUBTILES, starts.shape[0]], tl.float32)
    for number in tl.range(tl.cdiv(subtiles, SUBTILES), disable_licm=True):
        positions = query_tile_rows(first_query, end_query, subtiles, number, SUBTILE, SUBTILES)
        sums = tl.zeros([SUBTILES, starts.shape[0]], tl.float32)
        maxima = tl.full(shape, float("-inf"), tl.float32)
        for tile in tl.range(0, tl.max(ends), num_stages=STAGES):
            owner = (begins <= tile) & (tile < ends)
            start = tl.sum(tl.where(owner, starts, 0))
            length = tl.sum(tl.where(owner, lengths, 0))
            begin = tl.sum(tl.where(owner, begins, 0))
            place = (tile - begin) * TOKENS + tl.arange(0, TOKENS)
            dots = similarities(
                positions,
                start + tl.minimum(place, length - 1),
                p_queries,
                p_codes,
                p_scales,
                p_centroid_ids,
                p_centroids,
                p_bucket_weights,
                CODES,
                CODES_PER_BYTE,
                DIM,
                BLOCK_DIM,
                TOKENS_AS_ROWS,
            )
            maxima = tl.maximum(maxima, dots)
            if (tile - begin + 1) * TOKENS >= length:
                weights = query_tile_weights(p_weights, first_query, end_query, subtiles, number, SUBTILE, SUBTILES)
                values = tl.where(weights != 0, tl.max(maxima, axis=token_axis) * weights, 0.0)
                subtile_sums = _sums_of_subtiles(values, SUBTILE)
                if (
                    SUBTILES == 1
                ):  # A number, not a tensor: the compiler would have each thread keep all documents' sums.
                    sums = tl.where(owner[None, :], tl.sum(subtile_sums), sums)
                else:
                    sums = tl.where(owner[None, :], subtile_sums[:, None], sums)
                maxima = tl.full(shape, float("-inf"), tl.float32)
        for i in range(per_tile):
            own = index[None, :] == index[:, None] * per_tile + i
            scores += tl.sum(tl.where(own[:, :, None], sums[None, :, :], 0.0), axis=1)
    return scores
