"""MaxSim in the Triton language: device code only; shapes, grids and memory are the business of launch.py.

    score(q, d) = sum over unmasked query tokens i of max over document tokens j of <Q_i, D_j>

A query is cut into slices of SLICE tokens, and a program scores a panel of SLICES slices, of one query or of several,
so that a block of document tokens is loaded once for the whole panel. The slices of a query are added in their order
afterwards. A panel has one shape for every batch and every query length: the bits of a score do not depend on the
queries beside it. A panel has 64 query tokens, because tl.dot with fewer rows compiles to HMMA on sm_90, not to wgmma.

`p_` is a pointer; whatever is multiplied into an address is int64.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

_ANY_ADDRESS = ["p_mask", "p_offsets", "p_live", "p_rows"]
"""Callers' tensors, read a few numbers at a time: another alignment must not mean another compilation."""


@triton.jit
def _panel_tokens(slices, first_slice, end_slice, query_tokens, SLICE: tl.constexpr, SLICES: tl.constexpr):
    """Where the panel's query tokens lie in [queries * query_tokens], and which exist: both [SLICES * SLICE].

    Slices count on from query to query, `slices` each; the panel holds those from first_slice on, up to end_slice.
    """
    lane = tl.arange(0, SLICES * SLICE)
    index = first_slice + lane // SLICE
    token = index % slices * SLICE + lane % SLICE
    return (index // slices).to(tl.int64) * query_tokens + token, (index < end_slice) & (token < query_tokens)


@triton.jit
def _document_tokens(p_offsets, p_live, row, documents):
    """Where the row's tokens start and end; equal for a dead or unknown row, so that no token of it is loaded."""
    known = (row >= 0) & (row < documents)
    live = (tl.load(p_live + row // 32, mask=known, other=0) >> (row & 31)) & 1
    start = tl.load(p_offsets + row, mask=known, other=0)
    return start, tl.load(p_offsets + row + 1, mask=known & (live != 0), other=start)


@triton.jit
def _slice_sums(
    p_queries,
    p_codes,
    positions,
    exists,
    counts,
    start,
    end,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    SLICE: tl.constexpr,
    SLICES: tl.constexpr,
):
    """Each slice's sum of maxima over the document tokens [start, end): fp32 [SLICES], -inf where there are none."""
    maxima = tl.full([SLICES * SLICE], float("-inf"), tl.float32)
    for first in range(start, end, BLOCK_TOKENS):
        tokens = first + tl.arange(0, BLOCK_TOKENS)
        dots = tl.zeros([SLICES * SLICE, BLOCK_TOKENS], tl.float32)
        for k in range(0, DIM, BLOCK_DIM):
            dims = k + tl.arange(0, BLOCK_DIM)
            queries = tl.load(
                p_queries + positions[:, None] * DIM + dims[None, :],
                mask=exists[:, None] & (dims < DIM)[None, :],
                other=0.0,
            )
            documents = tl.load(
                p_codes + tokens[:, None] * DIM + dims[None, :],
                mask=(tokens < end)[:, None] & (dims < DIM)[None, :],
                other=0.0,
            )
            dots = tl.dot(queries, documents.T, dots, input_precision="ieee")
        dots = tl.where((tokens < end)[None, :], dots, float("-inf"))
        maxima = tl.maximum(maxima, tl.max(dots, axis=1))
    sums = tl.sum(tl.reshape(tl.where(counts, maxima, 0.0), [SLICES, SLICE]), axis=1)
    return tl.where(start < end, sums, float("-inf"))


@triton.jit(do_not_specialize=["queries", "query_tokens", "documents"], do_not_specialize_on_alignment=_ANY_ADDRESS)
def score_documents(
    p_queries,  # [queries, query_tokens, DIM], the dtype of the codes
    p_mask,  # uint8 [queries, query_tokens]
    p_codes,  # [tokens, DIM]
    p_offsets,  # int64 [documents + 1]
    p_live,  # int32 [ceil(documents / 32)]
    p_sums,  # out: fp32 [queries, slices, documents]
    queries,
    query_tokens,
    documents,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_DOCUMENTS: tl.constexpr,
    SLICE: tl.constexpr,
    SLICES: tl.constexpr,
):
    """Scores every query slice with every document. Grid: blocks of documents x panels.

    Panels are the fast axis: programs that read the same documents run together and find them in L2.
    """
    slices = tl.cdiv(query_tokens, SLICE)
    all_slices = queries * slices
    panels = tl.cdiv(all_slices, SLICES)
    first_slice = tl.program_id(0) % panels * SLICES
    first_row = tl.program_id(0) // panels * BLOCK_DOCUMENTS
    positions, exists = _panel_tokens(slices, first_slice, all_slices, query_tokens, SLICE, SLICES)
    counts = tl.load(p_mask + positions, mask=exists, other=0) != 0
    out = first_slice + tl.arange(0, SLICES)
    for row in range(first_row, tl.minimum(first_row + BLOCK_DOCUMENTS, documents)):
        start, end = _document_tokens(p_offsets, p_live, row, documents)
        sums = _slice_sums(
            p_queries, p_codes, positions, exists, counts, start, end, DIM, BLOCK_DIM, BLOCK_TOKENS, SLICE, SLICES
        )
        tl.store(p_sums + out.to(tl.int64) * documents + row, sums, mask=out < all_slices)


@triton.jit(do_not_specialize=["query_tokens", "documents", "candidates"], do_not_specialize_on_alignment=_ANY_ADDRESS)
def score_candidates(
    p_queries,  # [queries, query_tokens, DIM], the dtype of the codes
    p_mask,  # uint8 [queries, query_tokens]
    p_codes,  # [tokens, DIM]
    p_offsets,  # int64 [documents + 1]
    p_live,  # int32 [ceil(documents / 32)]
    p_rows,  # int64 [queries, candidates]
    p_sums,  # out: fp32 [queries, slices, candidates]
    query_tokens,
    documents,
    candidates,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    SLICE: tl.constexpr,
    SLICES: tl.constexpr,
):
    """Scores each query's slices with the query's own documents. Grid: queries x candidates x panels of one query."""
    slices = tl.cdiv(query_tokens, SLICE)
    panels = tl.cdiv(slices, SLICES)
    pair = (tl.program_id(0) // panels).to(tl.int64)
    query = (pair // candidates).to(tl.int32)
    first_slice = query * slices + tl.program_id(0) % panels * SLICES
    end_slice = (query + 1) * slices
    positions, exists = _panel_tokens(slices, first_slice, end_slice, query_tokens, SLICE, SLICES)
    counts = tl.load(p_mask + positions, mask=exists, other=0) != 0
    start, end = _document_tokens(p_offsets, p_live, tl.load(p_rows + pair), documents)
    sums = _slice_sums(
        p_queries, p_codes, positions, exists, counts, start, end, DIM, BLOCK_DIM, BLOCK_TOKENS, SLICE, SLICES
    )
    out = first_slice + tl.arange(0, SLICES)
    tl.store(p_sums + out.to(tl.int64) * candidates + pair % candidates, sums, mask=out < end_slice)


@triton.jit(do_not_specialize=["slices", "documents", "kept"])
def select_documents(
    p_sums,  # fp32 [queries, slices, documents]
    p_keys,  # out: int64 [queries, blocks, kept]
    slices,
    documents,
    kept,
    BLOCK: tl.constexpr,
):
    """Adds slices up and keeps the `kept` largest sort keys (ranking.py) of each block. Grid: queries x blocks."""
    blocks = tl.cdiv(documents, BLOCK)
    query = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    scores = tl.zeros([BLOCK], tl.float32)
    for i in range(slices):
        scores += tl.load(p_sums + (query * slices + i) * documents + rows, mask=rows < documents, other=float("-inf"))
    bits = scores.to(tl.int32, bitcast=True)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
    keys = tl.sort((ordered << 32) | (0xFFFFFFFF - rows), descending=True)
    place = tl.arange(0, BLOCK)
    tl.store(p_keys + tl.program_id(0).to(tl.int64) * kept + place, keys, mask=place < kept)
