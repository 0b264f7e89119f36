"""The producer of a search: warps that claim blocks of documents, list their chunks and fill tiles with their tokens.

Consumers are told of two kinds of things, by barriers in shared memory that count arrivals:

- a list of chunks, in the program's scratch memory. LISTS of them are kept. `listed` counts the producer, once its
  threads have written a list; `read`, each consumer that is through with it.
- a tile of tokens, in shared memory. STAGES of them are kept. `full` counts the producer's threads as their copies
  arrive, and once more where there are scales, or, of a tile that is decoded, the producer once; `empty`, each consumer
  that has multiplied it.

A barrier's phase is 0, 1, 0, ...: for number n of either kind one waits for the phase (n // kept) % 2 of what makes it
ready, and for the other phase, which a new barrier has passed, of what makes room for it.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

from tridex.kernels.gpu.documents import CHUNK, COUNT_BITS, chunk_spans, document_spans
from tridex.kernels.gpu.kernels import block_span, claim
from tridex.kernels.gpu.query_tile import BLOCK_DOCUMENTS, LIST

from . import roles
from .tiles import HEAD, barrier, copy_tiles, decode_tiles

DOCUMENTS = gl.constexpr(BLOCK_DOCUMENTS)
"""In a block at most."""

CHUNKS = gl.constexpr(LIST)
"""In a list at most."""

LISTS = gl.constexpr(roles.LISTS)

STOP = gl.constexpr(-1)
"""In place of a block's size: there are no more lists."""

_CHUNKS_AT_A_TIME = gl.constexpr(8)


@gluon.jit
def _list_chunks(p_list, p_ends, starts, lengths, begins, ends, first, PRODUCER_WARPS: gl.constexpr):
    """documents.py's: the chunks number `first` to `first` + CHUNKS of a block of documents."""
    PAIRS: gl.constexpr = gl.BlockedLayout(
        [1, 16 // PRODUCER_WARPS], [64 // PRODUCER_WARPS, PRODUCER_WARPS // 2], [PRODUCER_WARPS, 1], [1, 0]
    )
    ROWS: gl.constexpr = gl.SliceLayout(1, PAIRS)
    starts = gl.convert_layout(starts, ROWS)[:, None]
    lengths = gl.convert_layout(lengths, ROWS)[:, None]
    begins = gl.convert_layout(begins, ROWS)[:, None]
    ends = gl.convert_layout(ends, ROWS)[:, None]
    low = gl.maximum(begins, first)
    high = gl.minimum(ends, first + CHUNKS)
    lasts = (lengths - 1) // CHUNK
    for k in range(0, gl.max(gl.ravel(high - low), axis=0), _CHUNKS_AT_A_TIME):
        number = low + k + gl.arange(0, _CHUNKS_AT_A_TIME, gl.SliceLayout(0, PAIRS))[None, :]
        own = number < high
        passed = gl.minimum(number - begins, lasts) * CHUNK
        tokens = gl.minimum(lengths - passed, CHUNK)
        gl.store(p_list + HEAD + (number - first), ((starts + passed) << COUNT_BITS) | (tokens - 1), mask=own)
        gl.store(p_ends + (number - first), (number + 1 == ends).to(gl.int8), mask=own)


@gluon.jit
def produce(
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    p_lists,  # of the program: int64 [LISTS, HEAD + CHUNKS]
    p_ends,  # of the program: int8 [LISTS, CHUNKS]
    p_tickets,
    documents,
    block_documents,
    large_blocks,
    last_documents,
    blocks,
    most,
    codes,
    scales,
    full,
    empty,
    listed,
    read,
    CODES_PER_BYTE: gl.constexpr,
    PRODUCER_WARPS: gl.constexpr,
):
    """The role. Tickets, blocks: kernels.py. The next ticket is on its way while a block is copied or decoded."""
    TILE_CHUNKS: gl.constexpr = codes.shape[1] // CHUNK
    place = gl.arange(0, DOCUMENTS, gl.BlockedLayout([1], [32], [PRODUCER_WARPS], [0]))
    number = 0
    done = 0
    taken = 0
    ticket = claim(p_tickets, blocks, taken, block_documents, most)
    while ticket < blocks:
        first_document, size = block_span(ticket, block_documents, large_blocks, last_documents)
        taken += size
        ticket = claim(p_tickets, blocks, taken, block_documents, most)
        rows = first_document + place
        starts, lengths = document_spans(p_offsets, p_live, rows, (place < size) & (rows < documents))
        begins, ends, chunks = chunk_spans(lengths, TILE_CHUNKS)
        first = 0
        while first < chunks:
            slot = number % LISTS
            p_list = p_lists + slot * (HEAD + CHUNKS)
            mbarrier.wait(read.index(slot), (number // LISTS & 1) ^ 1)
            _list_chunks(p_list, p_ends + slot * CHUNKS, starts, lengths, begins, ends, first, PRODUCER_WARPS)
            tiles = (gl.minimum(chunks - first, CHUNKS) // TILE_CHUNKS).to(gl.int32)
            first += CHUNKS
            gl.store(p_list, tiles.to(gl.int64))
            gl.store(p_list + 1, first_document)
            gl.store(p_list + 2, gl.where(first < chunks, 0, size).to(gl.int64))
            barrier()
            mbarrier.arrive(listed.index(slot), count=1)
            if p_centroids is None:
                copy_tiles(p_list, tiles, done, p_codes, p_scales, codes, scales, full, empty, PRODUCER_WARPS)
            else:
                decode_tiles(
                    p_list,
                    tiles,
                    done,
                    p_codes,
                    p_scales,
                    p_centroid_ids,
                    p_centroids,
                    p_bucket_weights,
                    codes,
                    scales,
                    full,
                    empty,
                    CODES_PER_BYTE,
                    PRODUCER_WARPS,
                )
            done += tiles
            number += 1
    slot = number % LISTS
    mbarrier.wait(read.index(slot), (number // LISTS & 1) ^ 1)
    gl.store(p_lists + slot * (HEAD + CHUNKS), gl.to_tensor(0).to(gl.int64))
    gl.store(p_lists + slot * (HEAD + CHUNKS) + 2, gl.to_tensor(STOP).to(gl.int64))
    barrier()
    mbarrier.arrive(listed.index(slot), count=1)
