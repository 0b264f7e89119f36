"""A consumer of a search: one warpgroup that multiplies its own query tokens with all tiles, and keeps its best keys.

It does what a plain program does with a query tile of as many subtiles (documents.py, with four warps), in the same
order of addition. Consumers never wait for each other: while one takes maxima, the tensor cores multiply for another.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from tridex.kernels.gpu.documents import CHUNK, halves, query_tile_rows, subtile_sums
from tridex.kernels.gpu.kernels import BUFFERED, append_block
from tridex.kernels.gpu.query_tile import SUBTILE
from tridex.kernels.gpu.top_k import LOWEST_KEY, clear_keys, keep_largest

from . import roles
from .producer import CHUNKS, DOCUMENTS, LISTS, STOP
from .tiles import HEAD, barrier

WARPS = gl.constexpr(roles.WARPS)

SUBTILE_TOKENS = gl.constexpr(SUBTILE)
"""Query tokens in a subtile."""


@gluon.jit
def _chunk_maxima(dots, TILE_CHUNKS: gl.constexpr):
    """[rows, tokens] to [rows, chunks, 4]. What a thread holds of a row: in each eight columns two neighbours."""
    rows: gl.constexpr = dots.shape[0]
    return gl.max(gl.max(gl.reshape(dots, [rows, TILE_CHUNKS, CHUNK // 8, 4, 2]), axis=4), axis=2)


@gluon.jit
def _first_chunk(maxima):
    """[rows, 4]: of the layout that the running maxima have."""
    if maxima.shape[1] > 1:
        first, _ = halves(maxima)
        chunk = _first_chunk(first)
    else:
        chunk = gl.reshape(maxima, [maxima.shape[0], 4])
    return chunk


@gluon.jit
def _take_chunks(chunk_maxima, running, none, ended, ends, weights, p_sums, SUBTILES: gl.constexpr):
    """documents.py's. none: [rows, 4] of -inf, in the running maxima's layout. ended: documents of the block."""
    if chunk_maxima.shape[1] > 1:
        first, second = halves(chunk_maxima)
        running, ended = _take_chunks(first, running, none, ended, ends, weights, p_sums, SUBTILES)
        ends = ends >> 4 * chunk_maxima.shape[1]
        running, ended = _take_chunks(second, running, none, ended, ends, weights, p_sums, SUBTILES)
    else:
        running = gl.maximum(running, gl.reshape(chunk_maxima, running.shape))
        if (ends & 1) != 0:
            # `where` also keeps the compiler from fusing product and sum, which would round otherwise.
            sums = subtile_sums(gl.where(weights != 0, gl.max(running, axis=1) * weights, 0.0), SUBTILES, WARPS)
            gl.store(p_sums + ended * WARPS + gl.arange(0, WARPS, sums.type.layout), sums)
            running = none
            ended += 1
    return running, ended


@gluon.jit
def consume(
    consumer,
    p_queries,
    p_weights,
    p_offsets,
    p_live,
    p_keys,
    p_least,
    p_lists,
    p_ends,
    p_sums,  # of the program: fp32 [consumers, DOCUMENTS, WARPS]
    split,
    splits,
    first_query,  # of the program; the consumers share its queries
    end_query,
    subtiles,
    documents,
    kept,
    capacity,
    query_tile,  # shared memory [consumers, rows, DIM]
    codes,
    scales,
    full,
    empty,
    listed,
    read,
):
    """The role of one warpgroup."""
    STAGES: gl.constexpr = codes.shape[0]
    SCALES: gl.constexpr = scales.shape[0]
    TOKENS: gl.constexpr = codes.shape[1]
    DIM: gl.constexpr = codes.shape[2]
    ROWS: gl.constexpr = query_tile.shape[1]
    SUBTILES: gl.constexpr = ROWS // SUBTILE_TOKENS
    TILE_CHUNKS: gl.constexpr = TOKENS // CHUNK
    BITS: gl.constexpr = codes.dtype.primitive_bitwidth
    INTEGERS: gl.constexpr = codes.dtype == gl.int8
    SUM: gl.constexpr = gl.int32 if INTEGERS else gl.float32
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, TOKENS, 256 // BITS])
    LOAD: gl.constexpr = gl.BlockedLayout(
        [1, 128 // BITS], [32 * 128 // BITS // DIM, DIM * BITS // 128], [WARPS, 1], [1, 0]
    )
    SCORES: gl.constexpr = gl.BlockedLayout([1, 1], [1, 32], [2, 2], [1, 0])
    KEYS: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])

    in_tile = SUBTILES // subtiles
    first_query = gl.minimum(first_query + consumer * in_tile, end_query)
    end_query = gl.minimum(first_query + in_tile, end_query)
    row = gl.arange(0, ROWS, gl.SliceLayout(1, LOAD))
    positions, _ = query_tile_rows(row, first_query, end_query, subtiles, 0, SUBTILE_TOKENS, SUBTILES, WARPS)
    dimension = gl.arange(0, DIM, gl.SliceLayout(0, LOAD))
    numbers = gl.load(p_queries + (positions * DIM)[:, None] + dimension[None, :])
    operand = query_tile.index(consumer)
    operand.store(numbers)
    fence_async_shared()
    barrier()
    zero = gl.zeros([ROWS, TOKENS], SUM, MMA)
    none = _first_chunk(_chunk_maxima(gl.zeros([ROWS, TOKENS], gl.float32, MMA), TILE_CHUNKS)) - float("inf")
    running = none
    row = gl.arange(0, ROWS, gl.max(none, axis=1).type.layout)
    positions, own = query_tile_rows(row, first_query, end_query, subtiles, 0, SUBTILE_TOKENS, SUBTILES, WARPS)
    weights = gl.load(p_weights + positions, mask=own, other=0.0)

    query = first_query + gl.arange(0, SUBTILES, gl.SliceLayout(1, SCORES))
    for i in range(first_query, end_query):
        p_buffer = p_keys + (gl.to_tensor(i).to(gl.int64) * splits + split) * capacity
        clear_keys(p_buffer, split, kept, gl.arange(0, BUFFERED, KEYS))
    counts = query * 0
    thresholds = query.to(gl.int64) * 0 + LOWEST_KEY
    p_own_sums = p_sums + consumer * (DOCUMENTS * WARPS)
    number = 0
    done = 0
    ended = 0
    size = 0
    while size != STOP:
        slot = number % LISTS
        mbarrier.wait(listed.index(slot), number // LISTS & 1)
        p_list = p_lists + slot * (HEAD + CHUNKS)
        p_tiles_ends = (p_ends + slot * CHUNKS).to(gl.pointer_type(gl.int64))
        tiles = gl.load(p_list).to(gl.int32)
        next_ends = gl.load(p_tiles_ends)
        for tile in range(tiles):
            ends = next_ends
            next_ends = gl.load(p_tiles_ends + gl.minimum(tile + 1, tiles - 1))
            stage = (done + tile) % STAGES
            mbarrier.wait(full.index(stage), (done + tile) // STAGES & 1)
            fence_async_shared()  # Copies are of another proxy than products.
            sums = warpgroup_mma(operand, codes.index(stage).permute([1, 0]), zero, use_acc=False, is_async=True)
            sums = warpgroup_mma_wait(0, deps=[sums])
            barrier()  # Each warp waited for its own products; one thread arrives for all.
            mbarrier.arrive(empty.index(stage), count=1)
            if INTEGERS:
                tokens_scales = scales.index((done + tile) % SCALES).load(gl.SliceLayout(0, MMA))
                dots = sums.to(gl.float32) * tokens_scales[None, :]
            else:
                dots = sums
            maxima = _chunk_maxima(dots, TILE_CHUNKS)
            running, ended = _take_chunks(maxima, running, none, ended, ends, weights, p_own_sums, SUBTILES)
        first_document = gl.load(p_list + 1)
        size = gl.load(p_list + 2).to(gl.int32)
        done += tiles
        number += 1
        barrier()
        mbarrier.arrive(read.index(slot), count=1)
        if size > 0:
            barrier()  # The sums of all warps are stored.
            place = gl.arange(0, DOCUMENTS, gl.SliceLayout(0, SCORES))
            counts = append_block(
                first_document + place,
                (place < size) & (first_document + place < documents),
                query,
                first_query,
                end_query,
                subtiles,
                p_offsets,
                p_live,
                p_own_sums,
                p_keys + (query.to(gl.int64) * splits + split) * capacity,
                counts,
                thresholds,
                SUBTILES,
                WARPS,
            )
            barrier()  # And read.
            ended = 0
        if (size == STOP) | (gl.max(counts, axis=0) > capacity - DOCUMENTS):
            for i in range(first_query, end_query):
                count = gl.sum(gl.where(query == i, counts, 0), axis=0)
                if count > kept:
                    p_buffer = p_keys + (gl.to_tensor(i).to(gl.int64) * splits + split) * capacity
                    least = keep_largest(p_buffer, count, kept, gl.arange(0, BUFFERED, KEYS))
                    thresholds = gl.where(query == i, least, thresholds)
            counts = gl.minimum(counts, kept)
    gl.store(p_least + query.to(gl.int64) * splits + split, thresholds, mask=query < end_query)
