"""How the producer fills a tile: it copies the tokens' numbers, or decodes those of residual codes.

Copies are asynchronous: as many tiles are on their way as there are stages. What is decoded goes through registers, so
a tile's codes and centroids are loaded while the tile before it is decoded.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment"
# ruff: noqa: N803, N806, RUF005
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from tridex.kernels.gpu.codes import DECODE_2_BITS, SIGNED, decode_4_bits
from tridex.kernels.gpu.documents import CHUNK, COUNT_BITS

from . import roles

barrier = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier
"""Of the threads of a role. It had the other name until triton 3.6."""

HEAD = gl.constexpr(roles.HEAD)
"""Numbers in front of a list's chunks: its tiles, and the first row and the size of the block that ends with it. The
size is 0 where the block goes on, and -1 where there are no more lists."""


@gluon.jit
def _tokens_of(entries, column):
    """The tokens of columns, of the chunks' entries: a short chunk repeats its last token."""
    return (entries >> COUNT_BITS) + gl.minimum(column % CHUNK, entries & (CHUNK - 1))


@gluon.jit
def copy_tiles(
    p_list,
    tiles,
    done,
    p_codes,
    p_scales,
    codes,
    scales,
    full,
    empty,
    WARPS: gl.constexpr,
):
    """Copies a list's tiles to shared memory; `done` were copied before. A list's numbers are loaded a tile ahead."""
    STAGES: gl.constexpr = codes.shape[0]
    SCALES: gl.constexpr = scales.shape[0]
    TOKENS: gl.constexpr = codes.shape[1]
    DIM: gl.constexpr = codes.shape[2]
    SCALED: gl.constexpr = codes.dtype == gl.int8
    TILE_CHUNKS: gl.constexpr = TOKENS // CHUNK
    NUMBERS: gl.constexpr = 128 // p_codes.dtype.element_ty.primitive_bitwidth
    LANES: gl.constexpr = DIM // NUMBERS
    COPY: gl.constexpr = gl.BlockedLayout([1, NUMBERS], [32 // LANES, LANES], [WARPS, 1], [1, 0])
    COLUMNS: gl.constexpr = gl.BlockedLayout([1], [32], [WARPS], [0])
    row = gl.arange(0, TOKENS, gl.SliceLayout(1, COPY))
    dimension = gl.arange(0, DIM, gl.SliceLayout(0, COPY))
    column = gl.arange(0, TOKENS, COLUMNS)
    p_entries = p_list + HEAD
    entries = gl.load(p_entries + row // CHUNK)
    for tile in range(tiles):
        tokens = _tokens_of(entries, row)
        after = gl.minimum(tile + 1, tiles - 1) * TILE_CHUNKS
        entries = gl.load(p_entries + after + row // CHUNK)
        if SCALED:
            scaled = _tokens_of(gl.load(p_entries + tile * TILE_CHUNKS + column // CHUNK), column)
            weights = gl.load(p_scales + scaled).to(gl.float32)
        stage = (done + tile) % STAGES
        mbarrier.wait(empty.index(stage), ((done + tile) // STAGES & 1) ^ 1)
        async_copy.async_copy_global_to_shared(
            codes.index(stage), p_codes + (tokens * DIM)[:, None] + dimension[None, :]
        )
        async_copy.mbarrier_arrive(full.index(stage), increment_count=False)
        if SCALED:
            scales.index((done + tile) % SCALES).store(weights)
            barrier()
            mbarrier.arrive(full.index(stage), count=1)


_DECODE_4_BITS = gl.constexpr(decode_4_bits(apart=1))
_DECODE_2_BITS = gl.constexpr(DECODE_2_BITS)
_OPERANDS_4_BITS = gl.constexpr("=&r,=&r" + ",r" * 7)
_OPERANDS_2_BITS = gl.constexpr("=&r,=&r,=&r,=&r" + ",r" * 6)
"""codes.py's, for elements that are words of four bytes: bucket weights come once, not once for each byte."""


@gluon.jit
def _load_bucket_weights(p_bucket_weights, CODES_PER_BYTE: gl.constexpr):
    """The bucket weights by fours, 128 above the codebook's, as the assembly has them."""
    p_words = p_bucket_weights.to(gl.pointer_type(gl.int32))
    words = (gl.load(p_words) ^ SIGNED,)
    if CODES_PER_BYTE == 2:
        for i in gl.static_range(1, 4):
            words = words + (gl.load(p_words + i) ^ SIGNED,)
    return words


@gluon.jit
def _load_parts(p_row, PARTS: gl.constexpr, WORDS: gl.constexpr):
    """A centroid's words for each code of a byte."""
    parts = (gl.load(p_row),)
    for part in gl.static_range(1, PARTS):
        parts = parts + (gl.load(p_row + part * WORDS),)
    return parts


@gluon.jit
def _decoded(codes, centroids, weights, CODES_PER_BYTE: gl.constexpr):
    """The tokens' numbers, words [tokens, DIM / 4], of words of codes and of centroids [tokens, DIM / 4 / parts]."""
    if CODES_PER_BYTE == 2:
        first, second = gl.inline_asm_elementwise(
            _DECODE_4_BITS,
            _OPERANDS_4_BITS,
            [codes, centroids[0], centroids[1], weights[0], weights[1], weights[2], weights[3]],
            dtype=(gl.int32, gl.int32),
            is_pure=True,
            pack=1,
        )
        numbers = gl.permute(gl.join(first, second), [0, 2, 1])
    else:
        gl.static_assert(CODES_PER_BYTE == 4)
        first, second, third, fourth = gl.inline_asm_elementwise(
            _DECODE_2_BITS,
            _OPERANDS_2_BITS,
            [codes, centroids[0], centroids[1], centroids[2], centroids[3], weights[0]],
            dtype=(gl.int32, gl.int32, gl.int32, gl.int32),
            is_pure=True,
            pack=1,
        )
        numbers = gl.permute(gl.join(gl.join(first, second), gl.join(third, fourth)), [0, 3, 2, 1])
    return gl.reshape(numbers, [codes.shape[0], codes.shape[1] * CODES_PER_BYTE])


@gluon.jit
def decode_tiles(
    p_list,
    tiles,
    done,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    codes,
    scales,
    full,
    empty,
    CODES_PER_BYTE: gl.constexpr,
    WARPS: gl.constexpr,
):
    """Decodes a list's tiles to shared memory; `done` were decoded before.

    A tile's codes, scales and centroids are loaded a tile ahead, the centroids' ids two, the list's numbers three. All
    of it is in words of four bytes: each byte of a loop would have a register of its own.
    """
    STAGES: gl.constexpr = codes.shape[0]
    SCALES: gl.constexpr = scales.shape[0]
    TOKENS: gl.constexpr = codes.shape[1]
    DIM: gl.constexpr = codes.shape[2]
    TILE_CHUNKS: gl.constexpr = TOKENS // CHUNK
    WORDS: gl.constexpr = DIM // 4 // CODES_PER_BYTE
    LANES: gl.constexpr = 32 * WARPS // TOKENS
    DECODED: gl.constexpr = gl.BlockedLayout([1, WORDS // LANES], [32 // LANES, LANES], [WARPS, 1], [1, 0])
    SWIZZLED: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=32, rank=2)
    row = gl.arange(0, TOKENS, gl.SliceLayout(1, DECODED))
    word = gl.arange(0, WORDS, gl.SliceLayout(0, DECODED))[None, :]
    p_codes = p_codes.to(gl.pointer_type(gl.int32))
    p_centroids = p_centroids.to(gl.pointer_type(gl.int32))
    bucket_weights = _load_bucket_weights(p_bucket_weights, CODES_PER_BYTE)
    p_entries = p_list + HEAD + row // CHUNK
    last = tiles - 1
    tokens = _tokens_of(gl.load(p_entries), row)
    ids = gl.load(p_centroid_ids + tokens).to(gl.int32) & 0xFFFF
    packed = gl.load(p_codes + (tokens * WORDS)[:, None] + word)
    token_scales = gl.load(p_scales + tokens)
    centroids = _load_parts(p_centroids + (ids * (DIM // 4))[:, None] + word, CODES_PER_BYTE, WORDS)
    tokens = _tokens_of(gl.load(p_entries + gl.minimum(1, last) * TILE_CHUNKS), row)
    ids = gl.load(p_centroid_ids + tokens).to(gl.int32) & 0xFFFF
    entries = gl.load(p_entries + gl.minimum(2, last) * TILE_CHUNKS)
    for tile in range(tiles):
        numbers = _decoded(packed, centroids, bucket_weights, CODES_PER_BYTE)
        weights = token_scales.to(gl.float32)
        packed = gl.load(p_codes + (tokens * WORDS)[:, None] + word)
        token_scales = gl.load(p_scales + tokens)
        centroids = _load_parts(p_centroids + (ids * (DIM // 4))[:, None] + word, CODES_PER_BYTE, WORDS)
        tokens = _tokens_of(entries, row)
        ids = gl.load(p_centroid_ids + tokens).to(gl.int32) & 0xFFFF
        entries = gl.load(p_entries + gl.minimum(tile + 3, last) * TILE_CHUNKS)
        stage = (done + tile) % STAGES
        mbarrier.wait(empty.index(stage), ((done + tile) // STAGES & 1) ^ 1)
        codes.index(stage)._reinterpret(gl.int32, [TOKENS, DIM // 4], SWIZZLED).store(numbers)
        scales.index((done + tile) % SCALES).store(weights)
        fence_async_shared()  # Products are of another proxy than stores.
        barrier()
        mbarrier.arrive(full.index(stage), count=1)
