"""The search of a batch on an H100 or H200: Gluon, its warps in roles.

A program has eight subtiles of queries. Two or four consumers, a warpgroup each, multiply their share of them with one
tile of tokens after the other. The producer, one more warpgroup or two, copies or decodes them to shared memory for all
consumers. It is search_documents of kernels.py to the last bit but for the merge, which is a launch of its own
(merge_splits): the same tickets, blocks, chunks, sums, sort keys and buffers.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, RUF005
from __future__ import annotations

import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from tridex.kernels.gpu.kernels import SIZES, merge

from .consumer import SUBTILE_TOKENS, consume
from .producer import CHUNKS, DOCUMENTS, LISTS, produce
from .selection import WARPS
from .tiles import HEAD, barrier


@gluon.jit
def _play_roles(
    consumed,  # consume's arguments but for the first
    produced,  # produce's arguments
    CONSUMERS: gl.constexpr,
    PRODUCER_WARPS: gl.constexpr,
    CONSUMER_REGISTERS: gl.constexpr,
    PRODUCER_REGISTERS: gl.constexpr,
):
    """Until the last role ends. Arguments come as tuples, of which some are None: a variable would lose these."""
    if CONSUMERS == 2:
        gl.warp_specialize(
            [
                (consume, (gl.to_tensor(0),) + consumed),
                (consume, (gl.to_tensor(1),) + consumed),
                (produce, produced),
            ],
            [WARPS, PRODUCER_WARPS],
            [CONSUMER_REGISTERS, PRODUCER_REGISTERS],
        )
    else:
        gl.static_assert(CONSUMERS == 4)
        gl.warp_specialize(
            [
                (consume, (gl.to_tensor(0),) + consumed),
                (consume, (gl.to_tensor(1),) + consumed),
                (consume, (gl.to_tensor(2),) + consumed),
                (consume, (gl.to_tensor(3),) + consumed),
                (produce, produced),
            ],
            [WARPS, WARPS, WARPS, PRODUCER_WARPS],
            [CONSUMER_REGISTERS, CONSUMER_REGISTERS, CONSUMER_REGISTERS, PRODUCER_REGISTERS],
        )


@gluon.jit(
    do_not_specialize=SIZES,
    do_not_specialize_on_alignment=[
        "p_scales",
        "p_centroid_ids",
        "p_offsets",
        "p_live",
        "p_keys",
        "p_least",
        "p_lists",
        "p_ends",
        "p_sums",
        "p_counters",
    ],
)
def search_batch(
    p_queries,  # these, up to p_live: as in kernels.py
    p_weights,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    p_keys,  # out: int64 [queries, splits, capacity], of which `kept` matter
    p_least,  # out: int64 [queries, splits]
    p_lists,  # scratch, this and all below: int64 [programs, LISTS, HEAD + CHUNKS]
    p_ends,  # int8 [programs, LISTS, CHUNKS]
    p_sums,  # fp32 [programs, consumers, DOCUMENTS, WARPS]
    p_counters,  # int32 [groups]: tickets given out; 0 in the beginning
    queries,
    subtiles,  # of a query: no more than a consumer has
    documents,
    groups,
    block_documents,
    large_blocks,
    last_documents,
    blocks,
    most,
    kept,
    capacity,
    CODES_PER_BYTE: gl.constexpr,
    DIM: gl.constexpr,
    CONSUMERS: gl.constexpr,
    SUBTILES: gl.constexpr,  # of a consumer
    TOKENS: gl.constexpr,
    STAGES: gl.constexpr,
    PRODUCER_WARPS: gl.constexpr,
    CONSUMER_REGISTERS: gl.constexpr,
    PRODUCER_REGISTERS: gl.constexpr,
):
    """What each split keeps of its documents, for each query. Grid: splits x groups of queries, groups fastest."""
    splits = gl.num_programs(0) // groups
    split = gl.program_id(0) // groups
    group = gl.program_id(0) % groups
    in_program = CONSUMERS * (SUBTILES // subtiles)
    first_query = group * in_program
    end_query = gl.minimum(first_query + in_program, queries)
    program = gl.program_id(0).to(gl.int64)
    p_lists += program * (LISTS * (HEAD + CHUNKS))
    p_ends += program * (LISTS * CHUNKS)
    p_sums += program * (CONSUMERS * DOCUMENTS * WARPS)

    NUMBER: gl.constexpr = p_queries.dtype.element_ty
    BITS: gl.constexpr = NUMBER.primitive_bitwidth
    SWIZZLED: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=BITS, rank=2)
    FLAT: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    SCALED: gl.constexpr = gl.int8 == NUMBER
    codes = gl.allocate_shared_memory(NUMBER, [STAGES, TOKENS, DIM], SWIZZLED)
    query_tile = gl.allocate_shared_memory(NUMBER, [CONSUMERS, SUBTILES * SUBTILE_TOKENS, DIM], SWIZZLED)
    # A consumer reads a tile's scales after it has given the tile back, and before it gives back the one STAGES later.
    scales = gl.allocate_shared_memory(gl.float32, [2 * STAGES, TOKENS if SCALED else 1], FLAT)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    listed = gl.allocate_shared_memory(gl.int64, [LISTS, 1], mbarrier.MBarrierLayout())
    read = gl.allocate_shared_memory(gl.int64, [LISTS, 1], mbarrier.MBarrierLayout())
    COPIES: gl.constexpr = 32 * PRODUCER_WARPS if p_centroids is None else 0
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=COPIES + (1 if SCALED else 0))
        mbarrier.init(empty.index(stage), count=CONSUMERS)
    for slot in gl.static_range(LISTS):
        mbarrier.init(listed.index(slot), count=1)
        mbarrier.init(read.index(slot), count=CONSUMERS)
    fence_async_shared()
    barrier()
    _play_roles(
        (
            p_queries,
            p_weights,
            p_offsets,
            p_live,
            p_keys,
            p_least,
            p_lists,
            p_ends,
            p_sums,
            split,
            splits,
            first_query,
            end_query,
            subtiles,
            documents,
            kept,
            capacity,
            query_tile,
            codes,
            scales,
            full,
            empty,
            listed,
            read,
        ),
        (
            p_codes,
            p_scales,
            p_centroid_ids,
            p_centroids,
            p_bucket_weights,
            p_offsets,
            p_live,
            p_lists,
            p_ends,
            p_counters + group,
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
            CODES_PER_BYTE,
            PRODUCER_WARPS,
        ),
        CONSUMERS,
        PRODUCER_WARPS,
        CONSUMER_REGISTERS,
        PRODUCER_REGISTERS,
    )


@triton.jit(
    do_not_specialize=["splits", "kept", "capacity", "top_k"],
    do_not_specialize_on_alignment=["p_keys", "p_merged", "p_least"],
)
def merge_splits(
    p_keys,
    p_least,
    p_merged,  # scratch: int64 [queries, splits * kept]
    p_units,
    p_best_scores,  # out: fp32 [queries, top_k]
    p_best_rows,  # out: int64 [queries, top_k]
    splits,
    kept,
    capacity,
    top_k,
):
    """The best documents of all splits, in order. Grid: queries."""
    query = tl.program_id(0)
    merge(
        p_keys,
        p_least,
        p_merged,
        p_units,
        p_best_scores,
        p_best_rows,
        query,
        query + 1,
        splits,
        kept,
        capacity,
        top_k,
        1,
    )
