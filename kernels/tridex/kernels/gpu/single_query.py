"""What comes before and behind the programs of one warp that search for one query (gluon/one_warp.py): device code.

Before, for residual codes, the query made ready and its products with all centroids; behind, the best of the documents'
scores. So many programs of one warp (1,600) would each keep top_k keys, and know a threshold once they are through. So
scores are kept, 4 bytes for each document, and a few programs look through them as search_documents looks through its
own.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

from .kernels import OTHERS, PLACES, merge
from .queries import power_of_two, round_tokens, unit_exponent
from .top_k import LOWEST_KEY, append_keys, clear_keys, keep_largest, sort_keys

SCORES_AT_A_TIME = 1024
"""Of a program that looks for the best."""

CENTROIDS_AT_A_TIME = 64
"""That are multiplied together."""

TABLE_PROGRAMS = 4
"""On a multiprocessor, that multiply centroids. Each makes the query ready by itself, which by estimate costs
less than a launch that does it for all."""


@triton.jit(
    do_not_specialize=["query_type", "tokens", "counters", "step", "centroids"],
    do_not_specialize_on_alignment=["p_queries", "p_mask", "p_counters"],
)
def prepare_with_centroids(
    p_queries,  # these, up to p_counters: as in prepare_queries, of one query of a subtile
    query_type,
    p_mask,
    p_numbers,
    p_weights,
    p_units,
    p_counters,
    p_centroids,  # int8 [centroids, DIM]
    p_products,  # out: int32 [centroids, 8, 4]
    tokens,
    counters,
    step,
    centroids,
    DIM: tl.constexpr,
    SUBTILE: tl.constexpr,
    CENTROIDS: tl.constexpr,
):
    """A query made ready, and the products of its tokens and all centroids. Grid: programs that share the centroids.

    All programs round the query, and the first stores what it became.
    """
    token = tl.arange(0, SUBTILE)
    dimension = tl.arange(0, DIM)
    program = tl.program_id(0)
    unit = unit_exponent(p_queries, query_type, p_mask, 0, tokens, DIM, DIM, SUBTILE)
    queries, weights, _ = round_tokens(
        p_queries, query_type, p_mask, 0, tokens, token, unit, step, tl.int8, False, DIM, DIM
    )
    if program == 0:
        tl.store(p_numbers + token[:, None] * DIM + dimension[None, :], queries)
        tl.store(p_weights + token, weights)
        tl.store(p_units, power_of_two(unit))
        for i in range(counters):
            tl.store(p_counters + i, 0)
    for first in range(program * CENTROIDS, centroids, tl.num_programs(0) * CENTROIDS):
        centroid = first + tl.arange(0, CENTROIDS)
        known = (centroid < centroids)[:, None]
        lines = centroid.to(tl.int64)[:, None]
        numbers = tl.load(p_centroids + lines * DIM + dimension[None, :], mask=known, other=0)
        products = tl.dot(numbers, queries.T, out_dtype=tl.int32)
        tl.store(p_products + lines * SUBTILE + (token % 8 * 4 + token // 8)[None, :], products, mask=known)


@triton.jit(
    do_not_specialize=["documents", "share", "kept", "capacity", "top_k"],
    do_not_specialize_on_alignment=["p_scores", "p_keys", "p_merged", "p_least", "p_finished"],
)
def best_of_scores(
    p_scores,  # fp32 [documents], -inf for what has none
    p_units,  # fp64 [1]
    p_best_scores,  # out: fp32 [top_k]
    p_best_rows,  # out: int64 [top_k]
    p_keys,  # scratch, this and all below: int64 [splits, capacity]
    p_merged,  # int64 [splits * kept]
    p_least,  # int64 [splits]
    p_finished,  # int32: programs that have finished; 0 in the beginning
    documents,
    share,  # of a split: documents
    kept,
    capacity,  # at least kept + CHUNK
    top_k,
    CHUNK: tl.constexpr,
):
    """The best documents, in order. Grid: splits; the last one to finish merges what all of them kept."""
    splits = tl.num_programs(0)
    split = tl.program_id(0)
    first = split.to(tl.int64) * share
    end = tl.minimum(first + share, documents)
    p_buffer = p_keys + split.to(tl.int64) * capacity
    clear_keys(p_buffer, split, kept, tl.arange(0, CHUNK))
    own = tl.zeros([1], tl.int64)
    counts = tl.zeros([1], tl.int32)
    threshold = tl.full([], LOWEST_KEY, tl.int64)
    for passed in range(0, share, CHUNK):
        rows = first + passed + tl.arange(0, CHUNK)
        scores = tl.load(p_scores + rows, mask=rows < end, other=float("-inf"))
        keys = sort_keys(scores, rows)
        better = (scores != float("-inf")) & (keys > threshold)
        counts = append_keys(p_buffer + own, counts, keys[None, :], better[None, :])
        count = tl.sum(counts)
        if (count > kept) & ((count > capacity - CHUNK) | (passed + CHUNK >= share)):
            threshold = keep_largest(p_buffer, count, kept, tl.arange(0, CHUNK))
            counts = tl.minimum(counts, kept)
    tl.store(p_least + split, threshold)
    tl.debug_barrier()
    finished = tl.atomic_add(p_finished, 1, sem="acq_rel")
    if finished == splits - 1:
        merge(
            p_keys,
            p_least,
            p_merged,
            p_units,
            p_best_scores,
            p_best_rows,
            tl.arange(0, 1),
            0,
            1,
            splits,
            kept,
            capacity,
            top_k,
            tl.arange(0, CHUNK),
            tl.arange(0, CHUNK),
            tl.arange(0, PLACES),
            tl.arange(0, OTHERS),
        )
