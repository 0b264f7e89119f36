"""MaxSim in the Triton language: the kernels. Grids, tile shapes and memory are backend.py's business.

    score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>

A query tile, query tokens as rows, meets tiles of document tokens as columns.

queries.py: queries made ready; codes.py: what is multiplied of each codec's codes; similarity.py: products;
documents.py: maxima and sums; top_k.py: selection. `p_` is a pointer; whatever is multiplied into an address is int64.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

from .documents import block_rows, document_spans, query_scores, query_tile_rows, store_sums
from .queries import unscaled
from .similarity import load_query_tile, similarities
from .top_k import LOWEST_KEY, append_keys, best_of_keys, clear_keys, keep_largest, sort_keys

CALLERS = ["p_live", "p_offsets", "p_scales", "p_centroid_ids", "p_rows"]
"""Callers' tensors that are read a few numbers at a time."""

_SCRATCH = ["p_keys", "p_merged", "p_least", "p_chunks", "p_ends", "p_sums", "p_counters"]
ANY_ADDRESS = CALLERS + _SCRATCH
"""They and parts of a workspace: another alignment must not mean another compilation."""

BUFFERED = tl.constexpr(256)
"""Keys looked at together in a program's buffer, which holds no more at a top_k of 128."""

MERGED = tl.constexpr(1024)
"""Keys of all queries of a query tile that are looked at together where they are merged: each round waits for memory.
A search of one query has some 500 splits."""

PLACES = tl.constexpr(128)
OTHERS = tl.constexpr(8)
"""Keys that are put in order together, and keys that they are compared with together."""


@triton.jit
def claim(p_tickets, tickets, taken, block_documents, most):
    """A ticket that no other program has, or `tickets` where there are no more or the program has had its share."""
    ticket = tickets
    if taken + block_documents <= most:
        ticket = tl.atomic_add(p_tickets, 1, sem="relaxed")
    return ticket


@triton.jit
def block_span(ticket, block_documents, large_blocks, last_documents):
    """A ticket's documents: the first row, int64, and how many; of the last block there may be fewer."""
    behind = tl.maximum(ticket - large_blocks, 0)
    first = tl.minimum(ticket, large_blocks).to(tl.int64) * block_documents + behind.to(tl.int64) * last_documents
    return first, tl.where(ticket < large_blocks, block_documents, last_documents)


@triton.jit
def append_block(
    rows,
    wanted,
    query,  # int32 [queries]
    first_query,
    end_query,
    subtiles,
    p_offsets,
    p_live,
    p_sums,
    p_buffers,  # pointers [queries]
    counts,
    thresholds,
    SUBTILES: tl.constexpr,
    WARPS: tl.constexpr,
):
    """Appends the keys of a block's documents that beat the thresholds, and returns the buffers' new counts.

    rows, wanted: of block_rows. p_sums: what store_sums stored.
    """
    _, lengths = document_spans(p_offsets, p_live, rows, wanted)
    scores = query_scores(lengths, query - first_query, query < end_query, subtiles, p_sums, SUBTILES, WARPS)
    keys = sort_keys(scores, rows[None, :])
    better = (keys > thresholds[:, None]) & (lengths > 0)[None, :] & (query < end_query)[:, None]
    return append_keys(p_buffers, counts, keys, better)


@triton.jit
def merge(
    p_keys,
    p_least,
    p_merged,
    p_units,
    p_best_scores,
    p_best_rows,
    query,  # int32 [queries]
    first_query,
    end_query,
    splits,
    kept,
    capacity,
    top_k,
    merged,
    numbers,
    places,
    others,
):
    """The best documents of all splits, in order, for the queries of a group.

    At least top_k keys reach the largest of the thresholds, and few more do: only these are put in order. Other
    programs' keys are loaded past L1, which may hold what was there before them.

    merged: a range, of a query's keys that are looked at together. numbers, places, others: best_of_keys'.
    """
    own = query < end_query
    lines = query.to(tl.int64)
    least = lines * 0 + LOWEST_KEY
    for first in range(0, splits, merged.shape[0]):
        split = first + merged
        known = own[:, None] & (split < splits)[None, :]
        p_thresholds = p_least + (lines[:, None] * splits + split[None, :])
        thresholds = tl.load(p_thresholds, mask=known, other=LOWEST_KEY, cache_modifier=".cg")
        least = tl.maximum(least, tl.max(thresholds, axis=1))
    counts = query * 0
    for first in range(0, splits * kept, merged.shape[0]):
        place = first + merged
        known = own[:, None] & (place < splits * kept)[None, :]
        p_own = p_keys + (lines[:, None] * splits + (place // kept)[None, :]) * capacity + (place % kept)[None, :]
        keys = tl.load(p_own, mask=known, other=LOWEST_KEY, cache_modifier=".cg")
        better = known & (keys >= least[:, None])
        counts = append_keys(p_merged + lines * splits * kept, counts, keys, better)
    tl.debug_barrier()
    for i in range(first_query, end_query):
        line = tl.cast(i, tl.int64)
        count = tl.sum(tl.where(query == i, counts, 0))
        best_of_keys(
            p_merged + line * splits * kept,
            count,
            top_k,
            tl.load(p_units + line),
            p_best_scores + line * top_k,
            p_best_rows + line * top_k,
            numbers,
            places,
            others,
        )


SIZES = [
    "queries",
    "subtiles",
    "documents",
    "block_documents",
    "large_blocks",
    "last_documents",
    "blocks",
    "most",
    "kept",
    "capacity",
]
"""How a search is cut up: another number must not mean another compilation."""


@triton.jit(
    do_not_specialize=[*SIZES, "groups", "rounds", "top_k"],
    do_not_specialize_on_alignment=ANY_ADDRESS,
)
def search_documents(
    p_queries,  # these, up to p_units: what queries.py made
    p_weights,
    p_units,
    p_codes,  # [tokens, numbers or bytes]
    p_scales,  # fp16 [tokens] or None
    p_centroid_ids,  # int16 [tokens] or None
    p_centroids,  # int8 [centroids, DIM] or None
    p_bucket_weights,  # int8 [buckets] or None
    p_offsets,  # int64 [documents + 1]
    p_live,  # int32 [ceil(documents / 32)]
    p_best_scores,  # out: fp32 [queries, top_k]
    p_best_rows,  # out: int64 [queries, top_k]
    p_keys,  # scratch, this and all below: int64 [queries, splits, capacity]
    p_merged,  # int64 [queries, splits * kept]
    p_least,  # int64 [queries, splits]
    p_chunks,  # int64 [programs, LIST]
    p_ends,  # int8 [programs, LIST]
    p_sums,  # fp32 [programs, query tiles of a query, BLOCK_DOCUMENTS, WARPS]
    p_counters,  # int32 [2, groups]: tickets given out, programs that have finished; 0 in the beginning
    queries,
    subtiles,
    documents,
    groups,
    block_documents,  # at most BLOCK_DOCUMENTS
    large_blocks,  # of block_documents; the documents behind them are in smaller blocks
    last_documents,  # in a smaller block
    blocks,  # of both sizes
    most,  # documents of a split
    rounds,  # blocks of a split, at most
    kept,
    capacity,  # at least kept + BLOCK_DOCUMENTS
    top_k,
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
    """The best documents of each query. Grid: splits x groups of queries.

    A split takes one block of documents after the other, whichever is next, so that none is waited for. Groups are the
    fast axis: programs that read the same documents run together and find them in L2, so that the index is read from
    memory once. The last program of a group to finish merges what all of them kept.
    """
    splits = tl.num_programs(0) // groups
    split = tl.program_id(0) // groups
    group = tl.program_id(0) % groups
    in_tile = SUBTILES // tl.minimum(subtiles, SUBTILES)
    first_query = group * in_tile
    end_query = tl.minimum(first_query + in_tile, queries)
    query = first_query + tl.arange(0, SUBTILES)
    program = tl.program_id(0).to(tl.int64)
    p_chunks += program * LIST
    p_ends += program * LIST
    p_sums += program * tl.cdiv(subtiles, SUBTILES) * (BLOCK_DOCUMENTS * WARPS)
    for i in range(first_query, end_query):
        clear_keys(p_keys + (tl.cast(i, tl.int64) * splits + split) * capacity, split, kept, tl.arange(0, BUFFERED))
    counts = tl.zeros([SUBTILES], tl.int32)
    thresholds = tl.full([SUBTILES], LOWEST_KEY, tl.int64)
    taken = 0
    ticket = claim(p_counters + group, blocks, taken, block_documents, most)
    # Not `while`, whose body's invariants the compiler would keep in registers that the tiles need.
    for _round in tl.range(0, rounds, disable_licm=True):
        if ticket < blocks:
            first, size = block_span(ticket, block_documents, large_blocks, last_documents)
            store_sums(
                None,
                first,
                size,
                documents,
                first_query,
                end_query,
                subtiles,
                p_chunks,
                p_ends,
                p_sums,
                p_queries,
                p_weights,
                p_codes,
                p_scales,
                p_centroid_ids,
                p_centroids,
                p_bucket_weights,
                p_offsets,
                p_live,
                CODES,
                CODES_PER_BYTE,
                DIM,
                BLOCK_DIM,
                SUBTILE,
                SUBTILES,
                WARPS,
                TOKENS,
                BLOCK_DOCUMENTS,
                LIST,
                STAGES,
            )
            rows, wanted = block_rows(None, first, size, documents, BLOCK_DOCUMENTS)
            counts = append_block(
                rows,
                wanted,
                query,
                first_query,
                end_query,
                subtiles,
                p_offsets,
                p_live,
                p_sums,
                p_keys + (query.to(tl.int64) * splits + split) * capacity,
                counts,
                thresholds,
                SUBTILES,
                WARPS,
            )
            taken += size
            ticket = claim(p_counters + group, blocks, taken, block_documents, most)
            if (ticket >= blocks) | (tl.max(counts) > capacity - BLOCK_DOCUMENTS):
                for i in range(first_query, end_query):
                    count = tl.sum(tl.where(query == i, counts, 0))
                    if count > kept:
                        p_buffer = p_keys + (tl.cast(i, tl.int64) * splits + split) * capacity
                        least = keep_largest(p_buffer, count, kept, tl.arange(0, BUFFERED))
                        thresholds = tl.where(query == i, least, thresholds)
                counts = tl.minimum(counts, kept)
    tl.store(p_least + query.to(tl.int64) * splits + split, thresholds, mask=query < end_query)
    tl.debug_barrier()
    finished = tl.atomic_add(p_counters + (groups + group), 1, sem="acq_rel")
    if finished == splits - 1:
        merge(
            p_keys,
            p_least,
            p_merged,
            p_units,
            p_best_scores,
            p_best_rows,
            query,
            first_query,
            end_query,
            splits,
            kept,
            capacity,
            top_k,
            tl.arange(0, MERGED // SUBTILES),
            tl.arange(0, BUFFERED),
            tl.arange(0, PLACES),
            tl.arange(0, OTHERS),
        )


@triton.jit(
    do_not_specialize=["subtiles", "documents", "candidates", "block_candidates"],
    do_not_specialize_on_alignment=ANY_ADDRESS,
)
def score_candidates(
    p_queries,  # these, up to p_live: as in search_documents
    p_weights,
    p_units,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    p_rows,  # int64 [queries, candidates]
    p_scores,  # out: fp32 [queries, candidates]
    p_chunks,  # scratch: as in search_documents
    p_ends,
    p_sums,
    subtiles,
    documents,
    candidates,
    block_candidates,  # at most BLOCK_DOCUMENTS
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
    """The scores of each query with its own candidates. Grid: queries x blocks of candidates."""
    blocks = tl.cdiv(candidates, block_candidates)
    query = tl.program_id(0) // blocks
    program = tl.program_id(0).to(tl.int64)
    p_sums += program * tl.cdiv(subtiles, SUBTILES) * (BLOCK_DOCUMENTS * WARPS)
    candidate = tl.program_id(0) % blocks * block_candidates
    size = tl.minimum(block_candidates, candidates - candidate)
    first = query.to(tl.int64) * candidates + candidate
    store_sums(
        p_rows,
        first,
        size,
        documents,
        query,
        query + 1,
        subtiles,
        p_chunks + program * LIST,
        p_ends + program * LIST,
        p_sums,
        p_queries,
        p_weights,
        p_codes,
        p_scales,
        p_centroid_ids,
        p_centroids,
        p_bucket_weights,
        p_offsets,
        p_live,
        CODES,
        CODES_PER_BYTE,
        DIM,
        BLOCK_DIM,
        SUBTILE,
        SUBTILES,
        WARPS,
        TOKENS,
        BLOCK_DOCUMENTS,
        LIST,
        STAGES,
    )
    rows, wanted = block_rows(p_rows, first, size, documents, BLOCK_DOCUMENTS)
    _, lengths = document_spans(p_offsets, p_live, rows, wanted)
    own = tl.zeros([1], tl.int32)
    scores = tl.sum(query_scores(lengths, own, own == 0, subtiles, p_sums, SUBTILES, WARPS), axis=0)
    scores = unscaled(tl.where(lengths > 0, scores, float("-inf")), tl.load(p_units + query.to(tl.int64)))
    place = tl.arange(0, BLOCK_DOCUMENTS)
    tl.store(p_scores + first + place, scores, mask=place < size)


@triton.jit(do_not_specialize=["subtiles", "documents", "candidates"], do_not_specialize_on_alignment=ANY_ADDRESS)
def explain_candidates(
    p_queries,  # these, up to p_rows: as in score_candidates
    p_weights,
    p_units,  # fp64 [queries, subtiles * SUBTILE]
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    p_rows,
    p_tokens,  # out: int64 [queries, candidates, subtiles * SUBTILE]
    p_similarities,  # out: fp32 [queries, candidates, subtiles * SUBTILE]
    subtiles,
    documents,
    candidates,
    CODES: tl.constexpr,
    CODES_PER_BYTE: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUBTILE: tl.constexpr,
    SUBTILES: tl.constexpr,
    WARPS: tl.constexpr,
    TOKENS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Each query token's nearest token of each candidate. Grid: queries x candidates x query tiles of one query."""
    query_tiles = tl.cdiv(subtiles, SUBTILES)
    pair = (tl.program_id(0) // query_tiles).to(tl.int64)
    number = tl.program_id(0) % query_tiles
    query = tl.program_id(0) // query_tiles // candidates
    row = tl.arange(0, SUBTILES * SUBTILE)
    positions, own = query_tile_rows(row, query, query + 1, subtiles, number, SUBTILE, SUBTILES, WARPS)
    query_tile = load_query_tile(p_queries, positions, CODES_PER_BYTE, DIM, BLOCK_DIM)
    document = tl.load(p_rows + pair)
    start, length = document_spans(p_offsets, p_live, document, (document >= 0) & (document < documents))
    largest = tl.full([SUBTILES * SUBTILE], float("-inf"), tl.float32)
    nearest = tl.full([SUBTILES * SUBTILE], -1, tl.int32)
    for first in tl.range(0, length, TOKENS, num_stages=STAGES):
        place = tl.minimum(first + tl.arange(0, TOKENS), length - 1)
        dots = similarities(
            query_tile,
            positions,
            start + place,
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
        value, index = tl.max(dots, axis=1, return_indices=True, return_indices_tie_break_left=True)
        nearest = tl.where(value > largest, first + index, nearest)
        largest = tl.maximum(largest, value)
    weights = tl.load(p_weights + positions, mask=own, other=0.0)
    units = tl.load(p_units + positions, mask=own, other=1.0)
    out = pair * subtiles * SUBTILE + (positions - query.to(tl.int64) * subtiles * SUBTILE)
    tl.store(p_tokens + out, tl.where(weights != 0, nearest, -1).to(tl.int64), mask=own)
    values = tl.where(weights != 0, largest * weights, 0.0)
    tl.store(p_similarities + out, unscaled(values, units), mask=own)
