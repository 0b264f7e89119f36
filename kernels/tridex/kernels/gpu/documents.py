"""Maxima and sums over documents: device code.

The columns of a tile are chunks of 16 tokens, each of one document: a chunk never crosses a document's end, so nothing
is masked in the loop, and a document of 68 tokens costs 80 columns, whatever the longest one has. A document's last
chunk repeats its last token, and a block's last document repeats its last chunk until the last tile is full: neither
changes a maximum, and neither reads anything new.

A program lists the chunks of a block of documents in its own scratch memory, from offsets and the bitmap; what is
deleted or filtered out has no chunks. Then it walks over the list tile by tile. A thread keeps a running maximum for
each of its rows, and where a document ends, one branch for the whole program takes the maxima away.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, SIM108
from __future__ import annotations

import triton
import triton.language as tl

from .similarity import load_query_tile, similarities

CHUNK = tl.constexpr(16)
"""Tokens in a chunk. Chunks of 8 leave fewer columns idle and cost more in branches: slower on an H200."""

COUNT_BITS = tl.constexpr(4)
"""Of a list's entry: a chunk's tokens less 1; the first token's place is above."""

_CHUNKS_AT_A_TIME = tl.constexpr(8)
"""Of one document that are listed at a time."""


@triton.jit
def query_tile_rows(
    row,
    first_query,
    end_query,
    subtiles,
    query_tile,
    SUBTILE: tl.constexpr,
    SUBTILES: tl.constexpr,
    WARPS: tl.constexpr,
):
    """Where in [queries * subtiles * SUBTILE] the query tokens of a query tile's rows lie, and which rows have one.

    row: the range of the query tile's rows, SUBTILES * SUBTILE of them.

    A query tile holds as many whole queries as it can, or else subtiles of one query; either lies in memory side by
    side. Rows behind them repeat the first row of all.

    A product's row 64 b + 16 w + r is in warp w (of four at a time), so it holds token 16 b + r of subtile w: a
    subtile's maxima are added within a warp. With 64 rows for four warps there is one b alone, and two warps share a
    subtile: one has its even tokens.
    """
    tl.static_assert(SUBTILE == 32)
    warp = row // 64 % (WARPS // 4) * 4 + row // 16 % 4
    if SUBTILES == WARPS:
        lane = warp * SUBTILE + row // (16 * WARPS) * 16 + row % 16
    else:
        tl.static_assert(2 * SUBTILES == WARPS)
        lane = warp // 2 * SUBTILE + row % 16 * 2 + warp % 2
    first = (first_query.to(tl.int64) * subtiles + query_tile * SUBTILES) * SUBTILE
    own = lane < ((end_query - first_query) * subtiles - query_tile * SUBTILES) * SUBTILE
    return tl.where(own, first + lane, 0), own


@triton.jit
def block_rows(p_rows, first, size, documents, BLOCK_DOCUMENTS: tl.constexpr):
    """A block's rows int64 [BLOCK_DOCUMENTS], and which of them there are.

    From row `first` on, or p_rows from place `first` on: `size` of them.
    """
    place = tl.arange(0, BLOCK_DOCUMENTS)
    if p_rows is None:
        rows = first + place
    else:
        rows = tl.load(p_rows + first + place, mask=place < size, other=-1)
    return rows, (place < size) & (rows >= 0) & (rows < documents)


@triton.jit
def document_spans(p_offsets, p_live, rows, wanted):
    """Where documents start and how many tokens they have: int64 and int32, 0 tokens if not live or not
    wanted."""
    words = tl.load(p_live + rows // 32, mask=wanted, other=0)
    live = wanted & (((words >> (rows & 31).to(tl.int32)) & 1) != 0)
    starts = tl.load(p_offsets + rows, mask=live, other=0)
    return starts, (tl.load(p_offsets + rows + 1, mask=live, other=0) - starts).to(tl.int32)


@triton.jit
def chunk_spans(lengths, TILE_CHUNKS: tl.constexpr):
    """The numbers of each document's first chunk and of the one behind its last, and of all: int64."""
    counts = tl.cdiv(lengths, CHUNK).to(tl.int64)
    ends = tl.cumsum(counts)
    total = tl.max(ends)
    padded = tl.cdiv(total, TILE_CHUNKS) * TILE_CHUNKS
    return ends - counts, tl.where((ends == total) & (counts > 0), padded, ends), padded


@triton.jit
def _list_chunks(
    p_chunks,
    p_ends,
    p_offsets,
    p_live,
    p_rows,
    first_document,
    size,
    documents,
    first,
    TILE_CHUNKS: tl.constexpr,
    LIST: tl.constexpr,
    BLOCK_DOCUMENTS: tl.constexpr,
):
    """Lists the chunks number `first` to `first` + LIST of a block of documents.

    p_chunks: out: int64 [LIST], first token << 4 | tokens - 1. p_ends: out: int8 [LIST], 1 where a document ends.
    Offsets are read anew for each list: kept from list to list they took registers that the tiles need.
    """
    rows, wanted = block_rows(p_rows, first_document, size, documents, BLOCK_DOCUMENTS)
    starts, lengths = document_spans(p_offsets, p_live, rows, wanted)
    begins, ends, _ = chunk_spans(lengths, TILE_CHUNKS)
    low = tl.maximum(begins, first)
    high = tl.minimum(ends, first + LIST)
    lasts = (lengths - 1) // CHUNK
    tl.debug_barrier()
    for k in range(0, tl.max(high - low), _CHUNKS_AT_A_TIME):
        number = low[:, None] + k + tl.arange(0, _CHUNKS_AT_A_TIME)[None, :]
        own = number < high[:, None]
        passed = tl.minimum(number - begins[:, None], lasts[:, None]) * CHUNK
        tokens = tl.minimum(lengths[:, None] - passed, CHUNK)
        entries = ((starts[:, None] + passed) << COUNT_BITS) | (tokens - 1)
        tl.store(p_chunks + (number - first), entries, mask=own)
        tl.store(p_ends + (number - first), (number + 1 == ends[:, None]).to(tl.int8), mask=own)
    tl.debug_barrier()


@triton.jit
def subtile_sums(values, SUBTILES: tl.constexpr, WARPS: tl.constexpr):
    """[rows] to [WARPS]: the sums of subtiles, or of their even and their odd tokens where two warps share one.

    Always two at a time, and first those whose tokens are farthest apart: the same bits in every query tile.
    """
    if SUBTILES == WARPS:
        values = tl.sum(tl.reshape(values, [2, values.shape[0] // 2]), axis=0)
    values = tl.reshape(values, [WARPS, 2, 2, 2, 2])
    for _ in tl.static_range(4):
        values = tl.sum(values, axis=1)
    return values


@triton.jit
def halves(maxima):
    """[rows, chunks, 4] to the first and the second half of the chunks. The compiler moves no number for it."""
    rows: tl.constexpr = maxima.shape[0]
    chunks: tl.constexpr = maxima.shape[1]
    return tl.split(tl.permute(tl.reshape(maxima, [rows, 2, chunks // 2, 4]), [0, 2, 3, 1]))


@triton.jit
def _take_chunks(chunk_maxima, running, documents, ends, weights, p_sums, SUBTILES: tl.constexpr, WARPS: tl.constexpr):
    """Takes the maxima [rows, chunks, 4] of a tile's chunks to the running ones, one after the other.

    documents: How many have ended. ends: int64, the chunks' bytes of p_ends. Where one ends, its sums are stored.
    """
    if chunk_maxima.shape[1] > 1:
        first, second = halves(chunk_maxima)
        running, documents = _take_chunks(first, running, documents, ends, weights, p_sums, SUBTILES, WARPS)
        ends = ends >> 4 * chunk_maxima.shape[1]
        running, documents = _take_chunks(second, running, documents, ends, weights, p_sums, SUBTILES, WARPS)
    else:
        running = tl.maximum(running, tl.reshape(chunk_maxima, running.shape))
        if (ends & 1) != 0:
            # `where` also keeps the compiler from fusing product and sum, which would round otherwise.
            values = tl.where(weights != 0, tl.max(running, axis=1) * weights, 0.0)
            tl.store(p_sums + documents * WARPS + tl.arange(0, WARPS), subtile_sums(values, SUBTILES, WARPS))
            running = tl.full(running.shape, float("-inf"), tl.float32)
            documents += 1
    return running, documents


@triton.jit
def store_sums(
    p_rows,  # of the block, as in block_rows
    first_document,
    size,
    documents,
    first_query,
    end_query,
    subtiles,
    p_chunks,  # scratch: int64 [LIST]
    p_ends,  # scratch: int8 [LIST], at a multiple of 8
    p_sums,  # out: fp32 [query tiles of a query, documents, WARPS]
    p_queries,
    p_weights,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    CODES: tl.constexpr,
    CODES_PER_BYTE: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUBTILE: tl.constexpr,
    SUBTILES: tl.constexpr,
    WARPS: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK_DOCUMENTS: tl.constexpr,
    LIST: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The sums over subtiles, for the queries from first_query on, of those of a block's documents that have tokens."""
    TILE_CHUNKS: tl.constexpr = TOKENS // CHUNK
    ROWS: tl.constexpr = SUBTILES * SUBTILE
    for number in tl.range(tl.cdiv(subtiles, SUBTILES), disable_licm=True):
        row = tl.arange(0, ROWS)
        positions, own = query_tile_rows(row, first_query, end_query, subtiles, number, SUBTILE, SUBTILES, WARPS)
        query_tile = load_query_tile(p_queries, positions, CODES_PER_BYTE, DIM, BLOCK_DIM)
        weights = tl.load(p_weights + positions, mask=own, other=0.0)
        running = tl.full([ROWS, 4], float("-inf"), tl.float32)
        ended = 0
        p_own_sums = p_sums + number * BLOCK_DOCUMENTS * WARPS
        rows, wanted = block_rows(p_rows, first_document, size, documents, BLOCK_DOCUMENTS)
        _, lengths = document_spans(p_offsets, p_live, rows, wanted)
        _, _, chunks = chunk_spans(lengths, TILE_CHUNKS)
        for first in tl.range(0, chunks, LIST, disable_licm=True):
            _list_chunks(
                p_chunks,
                p_ends,
                p_offsets,
                p_live,
                p_rows,
                first_document,
                size,
                documents,
                first,
                TILE_CHUNKS,
                LIST,
                BLOCK_DOCUMENTS,
            )
            tiles = (tl.minimum(chunks - first, LIST) // TILE_CHUNKS).to(tl.int32)
            for tile in tl.range(0, tiles, num_stages=STAGES):
                column = tl.arange(0, TOKENS)
                entries = tl.load(p_chunks + (tile * TILE_CHUNKS + column // CHUNK))
                tokens = (entries >> COUNT_BITS) + tl.minimum(column % CHUNK, entries & (CHUNK - 1))
                if TILE_CHUNKS == 8:
                    ends = tl.load(p_ends.to(tl.pointer_type(tl.int64)) + tile)
                else:
                    tl.static_assert(TILE_CHUNKS == 4)
                    ends = tl.load(p_ends.to(tl.pointer_type(tl.int32)) + tile)
                dots = similarities(
                    query_tile,
                    positions,
                    tokens,
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
                )
                # What a thread holds of a row: in each eight columns two neighbours.
                pairs = tl.max(tl.reshape(dots, [ROWS, TILE_CHUNKS, CHUNK // 8, 4, 2]), axis=4)
                running, ended = _take_chunks(
                    tl.max(pairs, axis=2), running, ended, ends, weights, p_own_sums, SUBTILES, WARPS
                )
    tl.debug_barrier()


@triton.jit
def query_scores(lengths, queries, wanted, subtiles, p_sums, SUBTILES: tl.constexpr, WARPS: tl.constexpr):
    """Adds what store_sums stored: fp32 [queries, documents], the subtiles of each query in their order.

    lengths: [documents]. queries: [n], places in the query tile, of which only the wanted ones are read. A document
    without tokens scores anything.
    """
    known = wanted[:, None] & (lengths > 0)[None, :]
    place = tl.cumsum(known.to(tl.int32), axis=1) - 1
    scores = tl.where(known, 0.0, 0.0)  # Zeros in the layout of `known`, which Gluon asks for.
    for i in range(subtiles):
        subtile = queries * subtiles + i
        p_own = p_sums + ((subtile // SUBTILES * lengths.shape[0])[:, None] + place) * WARPS
        if SUBTILES == WARPS:
            scores += tl.load(p_own + (subtile % SUBTILES)[:, None], mask=known, other=0.0)
        else:
            p_even = p_own + (subtile % SUBTILES * 2)[:, None]
            scores += tl.load(p_even, mask=known, other=0.0) + tl.load(p_even + 1, mask=known, other=0.0)
    return scores
