"""The inner products of a query tile and a tile of document tokens, for every codec: device code.

Query tokens are the rows of the matrix products and document tokens their columns, or the other way round
(TOKENS_AS_ROWS). Either way a product's terms are added in the order of the dimensions.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806
from __future__ import annotations

import triton
import triton.language as tl

from .codes import load_operands, load_rows


@triton.jit
def _load_halves(p_column, tokens, dtype: tl.constexpr):
    """[tokens]: the 16-bit numbers of a column, by aligned words of 32 bits: the compiler prefetches no smaller loads.

    The word of a column's last number may reach past the column, but never past the memory it was allocated in.
    """
    words = tl.load(p_column.to(tl.pointer_type(tl.int32)) + tokens // 2)
    return (words >> ((tokens & 1) * 16).to(tl.int32)).to(tl.int16).to(dtype, bitcast=True)


@triton.jit
def _zeros(positions, tokens, dtype: tl.constexpr, TOKENS_AS_ROWS: tl.constexpr):
    if TOKENS_AS_ROWS:
        sums = tl.zeros([tokens.shape[0], positions.shape[0]], dtype)
    else:
        sums = tl.zeros([positions.shape[0], tokens.shape[0]], dtype)
    return sums


@triton.jit
def _products(
    p_queries,
    positions,
    p_codes,
    tokens,
    p_centroids,
    centroids,
    p_bucket_weights,
    CODES: tl.constexpr,
    CODES_PER_BYTE: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
):
    """The inner products of rows of DIM numbers: int32 of int8 operands, else fp32.

    Each of a byte's codes belongs to another block of DIM / CODES_PER_BYTE neighbouring dimensions (codes.py).
    """
    WIDTH: tl.constexpr = DIM // CODES_PER_BYTE
    BLOCK: tl.constexpr = BLOCK_DIM // CODES_PER_BYTE if CODES_PER_BYTE == 1 or BLOCK_DIM >= 32 * CODES_PER_BYTE else 32
    if p_queries.dtype.element_ty == tl.int8:
        sums = _zeros(positions, tokens, tl.int32, TOKENS_AS_ROWS)
    else:
        sums = _zeros(positions, tokens, tl.float32, TOKENS_AS_ROWS)
    for k in range(0, WIDTH, BLOCK):
        operands = load_operands(p_codes, tokens, k, p_centroids, centroids, p_bucket_weights, CODES, WIDTH, BLOCK)
        for part in tl.static_range(CODES_PER_BYTE):
            queries = load_rows(p_queries + part * WIDTH, positions, k, DIM, WIDTH, BLOCK)
            if TOKENS_AS_ROWS:
                sums = tl.dot(operands[part], queries.T, sums, input_precision="ieee", out_dtype=sums.dtype)
            else:
                sums = tl.dot(queries, operands[part].T, sums, input_precision="ieee", out_dtype=sums.dtype)
    return sums


@triton.jit
def similarities(
    positions,  # int64 [query tokens], what query_tile_rows returned
    tokens,  # int64 [N]
    p_queries,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    CODES: tl.constexpr,
    CODES_PER_BYTE: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
):
    """fp32 [query tokens, N], or [N, query tokens] where tokens are rows: times a query token's weight, <Q_i, D_j>."""
    centroids = tokens
    if p_centroids is not None:
        centroids = _load_halves(p_centroid_ids, tokens, tl.int16).to(tl.int64) & 0xFFFF
    sums = _products(
        p_queries,
        positions,
        p_codes,
        tokens,
        p_centroids,
        centroids,
        p_bucket_weights,
        CODES,
        CODES_PER_BYTE,
        DIM,
        BLOCK_DIM,
        TOKENS_AS_ROWS,
    )
    dots = sums.to(tl.float32)
    if p_scales is not None:
        dots *= tl.expand_dims(_load_halves(p_scales, tokens, tl.float16).to(tl.float32), 1 if TOKENS_AS_ROWS else 0)
    return dots
