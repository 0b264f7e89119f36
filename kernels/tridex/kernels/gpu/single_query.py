"""What comes before and behind the programs of one warp that score a single query (gluon/one_warp.py): device code.

Before, for residual codes, the query's products with all centroids; behind, the best of the documents' scores. So many
programs of one warp (1,600) would each keep top_k keys, and know a threshold once they are through. So scores are kept,
4 bytes for each document, and a few programs look through them as search_documents looks through its own.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

from .kernels import OTHERS, PLACES, merge
from .top_k import LOWEST_KEY, append_keys, clear_keys, keep_largest, sort_keys

SCORES_AT_A_TIME = 1024
"""Of a program that looks for the best."""

CENTROIDS_AT_A_TIME = 64
"""Of a program that multiplies them."""


@triton.jit(do_not_specialize=["centroids"])
def multiply_centroids(
    p_queries,  # int8 [SUBTILE, DIM]
    p_centroids,  # int8 [centroids, DIM]
    p_products,  # out: int32 [centroids, 8, 4]
    centroids,
    DIM: tl.constexpr,
    SUBTILE: tl.constexpr,
    CENTROIDS: tl.constexpr,
):
    """The products of query tokens and centroids. Grid: centroids / CENTROIDS."""
    token = tl.arange(0, SUBTILE)
    dimension = tl.arange(0, DIM)
    centroid = tl.program_id(0) * CENTROIDS + tl.arange(0, CENTROIDS)
    known = (centroid < centroids)[:, None]
    queries = tl.load(p_queries + token[:, None] * DIM + dimension[None, :])
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
