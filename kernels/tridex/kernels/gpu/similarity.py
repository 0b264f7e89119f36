"""The inner products of a query tile and a tile of document tokens, for every codec: device code.

Query tokens are the rows of the matrix products and document tokens their columns. A product's terms are added in the
order of the dimensions.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment"
# ruff: noqa: N803, N806, RUF005
from __future__ import annotations

import triton
import triton.language as tl

from .codes import load_operands, load_rows

_KEPT_DIM = tl.constexpr(128)
"""Dimensions of queries that there is room for while tiles of documents go by."""


@triton.jit
def _load_halves(p_column, tokens, dtype: tl.constexpr):
    """[tokens]: the 16-bit numbers of a column, by aligned words of 32 bits: the compiler prefetches no smaller loads.

    The word of a column's last number may reach past the column, but never past the memory it was allocated in.
    """
    words = tl.load(p_column.to(tl.pointer_type(tl.int32)) + tokens // 2)
    return (words >> ((tokens & 1) * 16).to(tl.int32)).to(tl.int16).to(dtype, bitcast=True)


@triton.constexpr_function
def _block_of(BLOCK_DIM, CODES_PER_BYTE):
    """Bytes, or numbers, of a token that are multiplied at a time: a matrix product takes 32 at the least."""
    return max(BLOCK_DIM // CODES_PER_BYTE, min(BLOCK_DIM, 32))


@triton.jit
def _load_queries(
    p_queries, positions, CODES_PER_BYTE: tl.constexpr, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, first
):
    """The rows' numbers from each part's column `first` on: [rows, block] for each code of a byte (codes.py)."""
    WIDTH: tl.constexpr = DIM // CODES_PER_BYTE
    BLOCK: tl.constexpr = _block_of(BLOCK_DIM, CODES_PER_BYTE)
    parts = (load_rows(p_queries, positions, first, DIM, WIDTH, BLOCK),)
    for part in tl.static_range(1, CODES_PER_BYTE):
        parts = parts + (load_rows(p_queries + part * WIDTH, positions, first, DIM, WIDTH, BLOCK),)
    return parts


@triton.jit
def load_query_tile(
    p_queries,
    positions,  # int64 [rows]: where in [queries * subtiles * SUBTILE] the rows' query tokens lie
    CODES_PER_BYTE: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """What of a query tile is loaded once and multiplied with many tiles.

    More than _KEPT_DIM dimensions are loaded again for each tile.
    """
    BLOCK: tl.constexpr = _block_of(BLOCK_DIM, CODES_PER_BYTE)
    blocks = ()
    if DIM <= _KEPT_DIM:
        for k in tl.static_range(0, DIM // CODES_PER_BYTE, BLOCK):
            blocks = blocks + _load_queries(p_queries, positions, CODES_PER_BYTE, DIM, BLOCK_DIM, k)
    return blocks


@triton.jit
def _rounded_to_tf32(numbers):
    """fp32 numbers to those that tf32 has, half away from zero: 11 bits of their 24."""
    bits = numbers.to(tl.int32, bitcast=True)
    return ((bits + 0x1000) & ~0x1FFF).to(tl.float32, bitcast=True)


@triton.jit
def _add_products(queries, operand, sums):
    """sums + queries @ operand.T.

    Tensor cores multiply no float32, so each is cut into two numbers of tf32, q = q1 + q2, and

        q . d = (q2 . d1 + q1 . d2) + q1 . d1    but for q2 . d2 and what a tensor core cuts off q2 and d2:

    2^-21 |q| |d| at most, 4.8e-7 of the similarity of unit vectors. A number above 3.4026e38 is rounded to infinity.
    """
    if operand.dtype == tl.float32:
        query_large, large = _rounded_to_tf32(queries), _rounded_to_tf32(operand)
        products = tl.dot(queries - query_large, large.T, input_precision="tf32")
        products = tl.dot(query_large, (operand - large).T, products, input_precision="tf32")
        sums += tl.dot(query_large, large.T, products, input_precision="tf32")
    else:
        sums = tl.dot(queries, operand.T, sums, input_precision="ieee", out_dtype=sums.dtype)
    return sums


@triton.jit
def _products(
    numbers,  # what load_query_tile loaded, or ()
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
):
    """The inner products of rows of DIM numbers [rows, N]: int32 of int8 operands, else fp32.

    Each of a byte's codes belongs to another block of DIM / CODES_PER_BYTE neighbouring dimensions (codes.py).
    """
    WIDTH: tl.constexpr = DIM // CODES_PER_BYTE
    BLOCK: tl.constexpr = _block_of(BLOCK_DIM, CODES_PER_BYTE)
    SUM: tl.constexpr = tl.int32 if p_queries.dtype.element_ty == tl.int8 else tl.float32
    sums = tl.zeros([positions.shape[0], tokens.shape[0]], SUM)
    if DIM <= _KEPT_DIM:
        for k in tl.static_range(0, WIDTH, BLOCK):
            operands = load_operands(p_codes, tokens, k, p_centroids, centroids, p_bucket_weights, CODES, WIDTH, BLOCK)
            for part in tl.static_range(CODES_PER_BYTE):
                sums = _add_products(numbers[k // BLOCK * CODES_PER_BYTE + part], operands[part], sums)
    else:
        for k in range(0, WIDTH, BLOCK):
            operands = load_operands(p_codes, tokens, k, p_centroids, centroids, p_bucket_weights, CODES, WIDTH, BLOCK)
            queries = _load_queries(p_queries, positions, CODES_PER_BYTE, DIM, BLOCK_DIM, k)
            for part in tl.static_range(CODES_PER_BYTE):
                sums = _add_products(queries[part], operands[part], sums)
    return sums


@triton.jit
def similarities(
    query_tile,  # what load_query_tile returned for the positions
    positions,
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
):
    """fp32 [rows, N]: times a query token's weight, <Q_i, D_j>."""
    centroids = tokens
    if p_centroids is not None:
        centroids = _load_halves(p_centroid_ids, tokens, tl.int16).to(tl.int64) & 0xFFFF
    sums = _products(
        query_tile,
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
    )
    dots = sums.to(tl.float32)
    if p_scales is not None:
        dots *= _load_halves(p_scales, tokens, tl.float16).to(tl.float32)[None, :]
    return dots
