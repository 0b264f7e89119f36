"""MaxSim in the Triton language: the kernels. Grids, tile shapes and memory are backend.py's business.

    score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>

A query tile meets tiles of document tokens. wgmma (sm_90) multiplies 64 rows at least, so a lone subtile of 32 query
tokens is multiplied with document tokens as rows (TOKENS_AS_ROWS), a larger query tile with query tokens as rows.

codes.py: what is multiplied of each codec's codes; similarity.py: products; documents.py: maxima and sums; top_k.py:
selection. `p_` is a pointer; whatever is multiplied into an address is int64.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

from .documents import block_scores, document_spans, query_tile_rows, query_tile_weights
from .similarity import similarities
from .top_k import LOWEST_KEY, append_keys, clear_keys, keep_largest, scores_and_rows, sort_keys

_ANY_ADDRESS = ["p_live", "p_offsets", "p_scales", "p_centroid_ids", "p_rows", "p_keys"]
"""Callers' tensors, read a few numbers at a time: another alignment must not mean another compilation."""

_BUFFER_CHUNK = tl.constexpr(512)
_MERGE_CHUNK = tl.constexpr(4096)
"""Keys looked at together: in a split's buffer, which holds no more at a top_k of 192, and in those of all splits."""


@triton.jit(
    do_not_specialize=["queries", "subtiles", "documents", "block_documents", "groups", "kept", "capacity"],
    do_not_specialize_on_alignment=_ANY_ADDRESS,
)
def search_documents(
    p_queries,  # [queries, subtiles * SUBTILE, DIM], what the codec multiplies
    p_weights,  # fp32 [queries, subtiles * SUBTILE], 0 where a token does not count
    p_codes,  # [tokens, numbers or bytes]
    p_scales,  # fp16 [tokens] or None
    p_centroid_ids,  # int16 [tokens] or None
    p_centroids,  # int8 [centroids, DIM] or None
    p_bucket_weights,  # int8 [buckets] or None
    p_offsets,  # int64 [documents + 1]
    p_live,  # int32 [ceil(documents / 32)]
    p_keys,  # out: int64 [queries, splits, capacity]: the first `kept` of each, in no order
    queries,
    subtiles,
    documents,
    block_documents,  # at most BLOCK_DOCUMENTS
    groups,
    kept,
    capacity,  # at least kept + BLOCK_DOCUMENTS
    CODES: tl.constexpr,
    CODES_PER_BYTE: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    SUBTILE: tl.constexpr,
    SUBTILES: tl.constexpr,
    TOKENS: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
    BLOCK_DOCUMENTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The `kept` best documents of each query in each split. Grid: splits x groups of queries.

    A split is every splits-th block of documents. Groups are the fast axis: programs that read the same documents run
    together and find them in L2, so that the index is read from memory once.
    """
    splits = tl.num_programs(0) // groups
    split = tl.program_id(0) // groups
    in_tile = SUBTILES // tl.minimum(subtiles, SUBTILES)
    first_query = tl.program_id(0) % groups * in_tile
    end_query = tl.minimum(first_query + in_tile, queries)
    query = first_query + tl.arange(0, SUBTILES)
    p_own_keys = p_keys + (query.to(tl.int64) * splits + split) * capacity
    for i in range(first_query, end_query):
        clear_keys(p_keys + (tl.cast(i, tl.int64) * splits + split) * capacity, split, kept, _BUFFER_CHUNK)
    counts = tl.zeros([SUBTILES], tl.int32)
    thresholds = tl.full([SUBTILES], LOWEST_KEY, tl.int64)
    blocks = tl.cdiv(documents, block_documents)
    for block in tl.range(split, blocks, splits, disable_licm=True):
        place = tl.arange(0, BLOCK_DOCUMENTS)
        rows = tl.cast(block, tl.int64) * block_documents + place
        starts, lengths = document_spans(p_offsets, p_live, rows, (place < block_documents) & (rows < documents))
        scores = block_scores(
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
            CODES,
            CODES_PER_BYTE,
            DIM,
            BLOCK_DIM,
            SUBTILE,
            SUBTILES,
            TOKENS,
            TOKENS_AS_ROWS,
            STAGES,
        )
        keys = sort_keys(scores, rows[None, :])
        better = (keys > thresholds[:, None]) & (lengths > 0)[None, :] & (query < end_query)[:, None]
        counts = append_keys(p_own_keys, counts, keys, better)
        if (block + splits >= blocks) | (tl.max(counts) > capacity - BLOCK_DOCUMENTS):
            for i in range(first_query, end_query):
                count = tl.sum(tl.where(query == i, counts, 0))
                if count > kept:
                    p_buffer = p_keys + (tl.cast(i, tl.int64) * splits + split) * capacity
                    least = keep_largest(p_buffer, count, kept, _BUFFER_CHUNK)
                    thresholds = tl.where(query == i, least, thresholds)
            counts = tl.minimum(counts, kept)


@triton.jit(do_not_specialize=["count", "top_k"], do_not_specialize_on_alignment=["p_keys"])
def best_documents(
    p_keys,  # int64 [queries, count], all different; overwritten
    p_scores,  # out: fp32 [queries, top_k]
    p_best_rows,  # out: int64 [queries, top_k]
    count,
    top_k,
    CHUNK: tl.constexpr,
    OTHERS: tl.constexpr,
):
    """The best documents of all splits, in order. Grid: queries.

    A key's place is the number of larger keys among those that are kept.
    """
    query = tl.program_id(0).to(tl.int64)
    p_own = p_keys + query * count
    kept = tl.minimum(count, top_k)
    if count > kept:
        keep_largest(p_own, count, kept, _MERGE_CHUNK)
    for first in range(0, top_k, CHUNK):
        place = first + tl.arange(0, CHUNK)
        keys = tl.load(p_own + place, mask=place < kept, other=LOWEST_KEY)
        larger = tl.zeros([CHUNK], tl.int32)
        for first_other in range(0, kept, OTHERS):
            other = first_other + tl.arange(0, OTHERS)
            others = tl.load(p_own + other, mask=other < kept, other=LOWEST_KEY)
            larger += tl.sum((others[None, :] > keys[:, None]).to(tl.int32), axis=1)
        scores, rows = scores_and_rows(keys)
        out = query * top_k + tl.where(place < kept, larger, place)
        tl.store(p_scores + out, tl.where(place < kept, scores, float("-inf")), mask=place < top_k)
        tl.store(p_best_rows + out, tl.where(place < kept, rows, -1), mask=place < top_k)


@triton.jit(
    do_not_specialize=["subtiles", "documents", "candidates", "block_candidates"],
    do_not_specialize_on_alignment=_ANY_ADDRESS,
)
def score_candidates(
    p_queries,  # these, up to p_live: as in search_documents
    p_weights,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    p_rows,  # int64 [queries, candidates]
    p_scores,  # out: fp32 [queries, candidates]
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
    TOKENS: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
    BLOCK_DOCUMENTS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The scores of each query with its own candidates. Grid: queries x blocks of candidates."""
    blocks = tl.cdiv(candidates, block_candidates)
    query = tl.program_id(0) // blocks
    place = tl.arange(0, BLOCK_DOCUMENTS)
    candidate = tl.program_id(0) % blocks * block_candidates + place
    known = (place < block_candidates) & (candidate < candidates)
    pairs = query.to(tl.int64) * candidates + candidate
    rows = tl.load(p_rows + pairs, mask=known, other=-1)
    starts, lengths = document_spans(p_offsets, p_live, rows, (rows >= 0) & (rows < documents))
    scores = block_scores(
        starts,
        lengths,
        query,
        query + 1,
        subtiles,
        p_queries,
        p_weights,
        p_codes,
        p_scales,
        p_centroid_ids,
        p_centroids,
        p_bucket_weights,
        CODES,
        CODES_PER_BYTE,
        DIM,
        BLOCK_DIM,
        SUBTILE,
        SUBTILES,
        TOKENS,
        TOKENS_AS_ROWS,
        STAGES,
    )
    own = tl.sum(tl.where((tl.arange(0, SUBTILES) == 0)[:, None], scores, 0.0), axis=0)
    out = tl.where(lengths > 0, own, float("-inf"))
    tl.store(p_scores + pairs, out, mask=known)


@triton.jit(do_not_specialize=["subtiles", "documents", "candidates"], do_not_specialize_on_alignment=_ANY_ADDRESS)
def explain_candidates(
    p_queries,  # these, up to p_rows: as in score_candidates
    p_weights,
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
    TOKENS: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Each query token's nearest token of each candidate. Grid: queries x candidates x query tiles of one query."""
    query_tiles = tl.cdiv(subtiles, SUBTILES)
    pair = tl.program_id(0) // query_tiles
    number = tl.program_id(0) % query_tiles
    query = pair // candidates
    positions = query_tile_rows(query, query + 1, subtiles, number, SUBTILE, SUBTILES)
    row = tl.load(p_rows + pair.to(tl.int64))
    start, length = document_spans(p_offsets, p_live, row, (row >= 0) & (row < documents))
    largest = tl.full([SUBTILES * SUBTILE], float("-inf"), tl.float32)
    nearest = tl.full([SUBTILES * SUBTILE], -1, tl.int32)
    for first in tl.range(0, length, TOKENS, num_stages=STAGES):
        place = tl.minimum(first + tl.arange(0, TOKENS), length - 1)
        dots = similarities(
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
            TOKENS_AS_ROWS,
        )
        value, index = tl.max(
            dots, axis=0 if TOKENS_AS_ROWS else 1, return_indices=True, return_indices_tie_break_left=True
        )
        nearest = tl.where(value > largest, first + index, nearest)
        largest = tl.maximum(largest, value)
    weights = query_tile_weights(p_weights, query, query + 1, subtiles, number, SUBTILE, SUBTILES)
    token = number * SUBTILES * SUBTILE + tl.arange(0, SUBTILES * SUBTILE)
    out = pair.to(tl.int64) * subtiles * SUBTILE + token
    own = token < subtiles * SUBTILE
    tl.store(p_tokens + out, tl.where(weights != 0, nearest, -1).to(tl.int64), mask=own)
    tl.store(p_similarities + out, tl.where(weights != 0, largest * weights, 0.0), mask=own)
