"""The inner products of a panel of query tokens and a tile of document tokens, for every codec: device code.

Query tokens are the rows of the matrix products and document tokens their columns, or the other way round
(TOKENS_AS_ROWS). Either way a product's terms are added in the order of the dimensions.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, SIM108
from __future__ import annotations

import triton
import triton.language as tl

from .device_residual import levels_2_bits, levels_4_bits


@triton.jit
def _load_rows(p_numbers, rows, first, STRIDE: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """[rows, BLOCK]: the numbers from column `first` on, 0 from column WIDTH on."""
    columns = first + tl.arange(0, BLOCK)
    pointers = p_numbers + rows[:, None] * STRIDE + columns[None, :]
    if WIDTH % BLOCK == 0:
        numbers = tl.load(pointers)
    else:
        numbers = tl.load(pointers, mask=(columns < WIDTH)[None, :], other=0.0)
    return numbers


@triton.jit
def _load_halves(p_plane, tokens, dtype: tl.constexpr):
    """[tokens]: the 16-bit numbers of a plane, by aligned words of 32 bits: the compiler prefetches no smaller loads.

    The word of a plane's last number may reach past the plane, but never past the memory it was allocated in.
    """
    words = tl.load(p_plane.to(tl.pointer_type(tl.int32)) + tokens // 2)
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
    sums,
    CODEC: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
):
    """sums + the inner products of rows of DIM numbers."""
    for k in range(0, DIM, BLOCK_DIM):
        queries = _load_rows(p_queries, positions, k, DIM, DIM, BLOCK_DIM)
        codes = _load_rows(p_codes, tokens, k, DIM, DIM, BLOCK_DIM)
        if CODEC == "float8_e4m3" and codes.dtype == tl.uint8:
            # An e4m3 number is a float16 with 3 bits of fraction and another bias, which is what codes / 256 undoes.
            halves = ((codes & 0x7F).to(tl.int16) << 7) | ((codes & 0x80).to(tl.int16) << 8)
            codes = halves.to(tl.float16, bitcast=True)
        if TOKENS_AS_ROWS:
            sums = tl.dot(codes, queries.T, sums, input_precision="ieee", out_dtype=sums.dtype)
        else:
            sums = tl.dot(queries, codes.T, sums, input_precision="ieee", out_dtype=sums.dtype)
    return sums


@triton.jit
def _residual_products(
    p_queries,
    positions,
    p_codes,
    tokens,
    p_levels,
    sums,
    BITS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
):
    """sums + the inner products of query tokens and levels."""
    WIDTH: tl.constexpr = DIM * BITS // 8
    for k in range(0, WIDTH, BLOCK):
        codes = _load_rows(p_codes, tokens, k, WIDTH, WIDTH, BLOCK)
        if BITS == 4:
            levels = levels_4_bits(codes, p_levels)
        else:
            levels = levels_2_bits(codes, p_levels)
        for part in tl.static_range(8 // BITS):
            queries = _load_rows(p_queries + part * WIDTH, positions, k, DIM, WIDTH, BLOCK)
            if TOKENS_AS_ROWS:
                sums = tl.dot(levels[part], queries.T, sums, out_dtype=tl.int32)
            else:
                sums = tl.dot(queries, levels[part].T, sums, out_dtype=tl.int32)
    return sums


@triton.jit
def similarities(
    panel,  # what panel_rows returned
    tokens,  # int64 [N]
    p_queries,
    p_query_halves,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_levels,
    CODEC: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    TOKENS_AS_ROWS: tl.constexpr,
):
    """fp32 [query tokens, N], or [N, query tokens] where tokens are rows: times a query token's weight, <Q_i, D_j>."""
    positions, scales = panel
    query_axis: tl.constexpr = 1 if TOKENS_AS_ROWS else 0
    if CODEC == "residual4" or CODEC == "residual2":
        BITS: tl.constexpr = 4 if CODEC == "residual4" else 2
        BLOCK: tl.constexpr = BLOCK_DIM * BITS // 8 if BLOCK_DIM * BITS >= 256 else 32
        centroids = _load_halves(p_centroid_ids, tokens, tl.int16).to(tl.int64) & 0xFFFF
        near = _zeros(positions, tokens, tl.float32, TOKENS_AS_ROWS)
        near = _products(p_query_halves, positions, p_centroids, centroids, near, CODEC, DIM, BLOCK_DIM, TOKENS_AS_ROWS)
        far = _zeros(positions, tokens, tl.int32, TOKENS_AS_ROWS)
        far = _residual_products(p_queries, positions, p_codes, tokens, p_levels, far, BITS, DIM, BLOCK, TOKENS_AS_ROWS)
        dots = near + tl.expand_dims(scales, 1 - query_axis) * far.to(tl.float32)
    elif CODEC == "int8":
        sums = _zeros(positions, tokens, tl.int32, TOKENS_AS_ROWS)
        sums = _products(p_queries, positions, p_codes, tokens, sums, CODEC, DIM, BLOCK_DIM, TOKENS_AS_ROWS)
        dots = sums.to(tl.float32)
    else:
        sums = _zeros(positions, tokens, tl.float32, TOKENS_AS_ROWS)
        dots = _products(p_queries, positions, p_codes, tokens, sums, CODEC, DIM, BLOCK_DIM, TOKENS_AS_ROWS)
    if p_scales is not None:
        dots *= tl.expand_dims(_load_halves(p_scales, tokens, tl.float16).to(tl.float32), query_axis)
    return dots
