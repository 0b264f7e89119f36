"""The search of a batch on an H100 or H200: Gluon, its warps in roles.

A program has eight subtiles of queries. Two or four consumers, a warpgroup each, multiply their share of them with one
tile of tokens after the other. The producer, one more warpgroup or two, copies or decodes them to shared memory for all
consumers. It is search_documents of kernels.py to the last bit: the same tickets, blocks, chunks, sums, sort keys,
buffers and merge.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, RUF005
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from tridex.kernels.gpu.kernels import ANY_ADDRESS, BUFFERED, OTHERS, PLACES, SIZES, merge

from .consumer import SUBTILE_TOKENS, WARPS, consume
from .producer import CHUNKS, DOCUMENTS, LISTS, produce
from .tiles import HEAD, barrier

_MERGED = gl.constexpr(64)
"""Keys of each query that are looked at together where they are merged. With more, registers of the roles may spill."""


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
    do_not_specialize=[*SIZES, "top_k"],
    do_not_specialize_on_alignment=ANY_ADDRESS,
)
def search_batch(
    p_queries,  # these, up to p_least: as in kernels.py
    p_weights,
    p_units,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    p_best_scores,
    p_best_rows,
    p_keys,
    p_merged,
    p_least,
    p_chunks,  # int64 [programs, LISTS, HEAD + CHUNKS]
    p_ends,  # int8 [programs, LISTS, CHUNKS]
    p_sums,  # fp32 [programs, consumers, DOCUMENTS, WARPS]
    p_counters,
    queries,
    subtiles,  # of a query: no more than a consumer has
    documents,
    block_documents,
    large_blocks,
    last_documents,
    blocks,
    most,
    kept,
    capacity,
    top_k,
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
    """The best documents of each query. Grid: groups of queries, splits."""
    groups = gl.num_programs(0)
    group = gl.program_id(0)
    splits = gl.num_programs(1)
    split = gl.program_id(1)
    in_program = CONSUMERS * (SUBTILES // subtiles)
    first_query = group * in_program
    end_query = gl.minimum(first_query + in_program, queries)
    program = split.to(gl.int64) * groups + group
    p_chunks += program * (LISTS * (HEAD + CHUNKS))
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
            p_chunks,
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
            p_chunks,
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
    # The roles have joined, at a barrier of all warps: what they stored comes before the count.
    finished = gl.atomic_add(p_counters + (groups + group), 1, sem="acq_rel")
    if finished == splits - 1:
        # Not a layout of the roles': what both compute the compiler keeps through the roles' loops, which then spill.
        KEYS: gl.constexpr = gl.BlockedLayout([1, 1], [16, 2], [WARPS, 1], [1, 0])
        merge(
            p_keys,
            p_least,
            p_merged,
            p_units,
            p_best_scores,
            p_best_rows,
            first_query + gl.arange(0, CONSUMERS * SUBTILES, gl.SliceLayout(1, KEYS)),
            first_query,
            end_query,
            splits,
            kept,
            capacity,
            top_k,
            gl.arange(0, _MERGED, gl.SliceLayout(0, KEYS)),
            gl.arange(0, BUFFERED, gl.BlockedLayout([1], [32], [WARPS], [0])),
            gl.arange(0, PLACES, gl.SliceLayout(1, KEYS)),
            gl.arange(0, OTHERS, gl.SliceLayout(0, KEYS)),
        )
