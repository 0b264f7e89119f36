"""The scores of one query on an H100 or H200: Gluon, programs of one warp.

A query of up to 32 tokens is half of what a warpgroup multiplies, and warps that share it wait for each other at every
tile. So each warp is a program: the query's tokens stay in its registers, as rows of mma.sync, and tiles of 32 tokens
of one document, as columns, come by asynchronous copies, three of them on their way. Nothing is shared, so there are no
barriers but those of a warp with itself, and nothing that could wait for ever.

A document's last tile repeats its last token, as chunks do (documents.py). Residual codes are looked up in registers,
straight into operands; sums begin with the query's products with the tokens' centroids, of a table made before.

A score is to have the plain kernels' bits. Sums over query tokens are theirs, two at a time, first those that are
farthest apart, and sums of integers are exact; that mma.sync adds floats up as wgmma does was seen in experiments on an
H200, of 700 documents, and is for the probe to find out. single_query.py has what comes before and behind.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment"
# ruff: noqa: N803, N806, RUF005
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2

from tridex.kernels.gpu import codes as ptx
from tridex.kernels.gpu.documents import document_spans
from tridex.kernels.gpu.kernels import block_span

from .consumer import SUBTILE_TOKENS as ROWS
from .roles import LANES as _LANES
from .tiles import barrier

LANES = gl.constexpr(_LANES)
"""Of a warp: tokens in a tile, and documents in a block at most."""

_LANE = gl.constexpr(gl.BlockedLayout([1], [32], [1], [0]))
_MMA = gl.constexpr(gl.NVMMADistributedLayout([2, 0], [1, 1], [16, 8]))

_BEGIN = gl.constexpr(
    gl.DistributedLinearLayout(
        [[0, 0, 1], [0, 0, 2], [1, 0, 0], [8, 0, 0], [16, 0, 0]],
        [[2, 0, 0], [4, 0, 0], [0, 1, 0], [0, 2, 0], [0, 4, 0]],
        [],
        [],
        [32, 8, 4],
    )
)
"""Of sums [tokens, row % 8, row / 8]: a thread has those that it has of a product, so no number moves, and of each of
its tokens the 4 rows that lie side by side in the table."""

_WEIGHTS_4_BITS = gl.constexpr(ptx.WEIGHTS_4_BITS)
_WEIGHTS_2_BITS = gl.constexpr(ptx.WEIGHTS_2_BITS)
_OPERANDS_4_BITS = gl.constexpr("=&r,=&r" + ",r" * 17)
_OPERANDS_2_BITS = gl.constexpr("=&r,=&r,=&r,=&r" + ",r" * 5)


@gluon.jit
def _load_words(p_bucket_weights, WORDS: gl.constexpr):
    """All bucket weights, four in an int32."""
    p_words = p_bucket_weights.to(gl.pointer_type(gl.int32))
    words = (gl.load(p_words),)
    for i in gl.static_range(1, WORDS):
        words = words + (gl.load(p_words + i),)
    return words


@gluon.jit
def _bucket_weights(codes, words, PARTS: gl.constexpr):
    """int8 of packed codes, for each code of a byte."""
    if PARTS == 2:
        weights = gl.inline_asm_elementwise(
            _WEIGHTS_4_BITS,
            _OPERANDS_4_BITS,
            [codes, words[0], words[1], words[2], words[3]],
            dtype=(gl.int8, gl.int8),
            is_pure=True,
            pack=4,
        )
    else:
        weights = gl.inline_asm_elementwise(
            _WEIGHTS_2_BITS,
            _OPERANDS_2_BITS,
            [codes, words[0]],
            dtype=(gl.int8, gl.int8, gl.int8, gl.int8),
            is_pure=True,
            pack=4,
        )
    return weights


@gluon.jit
def _maxima(dots):
    """[rows, tokens] to [rows, 4]: over what a thread holds of a row, in each eight columns two neighbours."""
    return gl.max(gl.max(gl.reshape(dots, [dots.shape[0], dots.shape[1] // 8, 4, 2]), axis=3), axis=1)


@gluon.jit
def _sum_of_rows(values):
    """The sum of fp32 [ROWS]: two at a time, first those that are farthest apart."""
    values = gl.reshape(values, [2, 2, 2, 2, 2])
    for _ in gl.static_range(5):
        values = gl.sum(values, axis=0)
    return values


@gluon.jit
def _next_document(passed, starts, lengths, first, ticket, stored, cut):
    """The next document with tokens: its lane in a block, its first token and length.

    passed: Lanes of the block that have had their turn. starts, lengths: of the block's documents, a lane each. first:
    the block's first row. ticket: of the next block. They are returned anew, for the document may be in another block;
    where there is none any more, its lane is LANES. Documents without tokens are given their score on the way.
    """
    p_offsets, p_live, p_scores, p_tickets = stored
    documents, block_documents, large_blocks, last_documents, blocks = cut
    lane = gl.arange(0, LANES, _LANE)
    found = gl.min(gl.where((lane >= passed) & (lengths > 0), lane, LANES), axis=0)
    while (found == LANES) & (ticket < blocks):
        first, size = block_span(ticket, block_documents, large_blocks, last_documents)
        ticket = gl.atomic_add(p_tickets, 1, sem="relaxed")
        rows = first + lane
        known = (lane < size) & (rows < documents)
        starts, lengths = document_spans(p_offsets, p_live, rows, known)
        gl.store(p_scores + rows, float("-inf"), mask=known & (lengths == 0))
        found = gl.min(gl.where(lengths > 0, lane, LANES), axis=0)
    start = gl.sum(gl.where(lane == found, starts, 0), axis=0)
    length = gl.sum(gl.where(lane == found, lengths, 0), axis=0)
    return found, start, length, starts, lengths, first, ticket


@gluon.jit(
    do_not_specialize=["documents", "block_documents", "large_blocks", "last_documents", "blocks"],
    do_not_specialize_on_alignment=["p_scales", "p_centroid_ids", "p_offsets", "p_live", "p_scores", "p_tickets"],
)
def score_documents(
    p_queries,  # these, up to p_scores, but for p_products: as in kernels.py, of one query
    p_weights,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_products,  # int32 [centroids, 8, 4]: multiply_centroids (single_query.py) made it; None where there are none
    p_bucket_weights,
    p_offsets,
    p_live,
    p_scores,  # out: fp32 [documents], -inf where a document has no token or is not live
    p_tickets,  # int32: tickets given out; 0 in the beginning
    documents,
    block_documents,  # at most LANES; this, up to blocks: as in kernels.py
    large_blocks,
    last_documents,
    blocks,
    CODES_PER_BYTE: gl.constexpr,
    DIM: gl.constexpr,
    STAGES: gl.constexpr,
):
    """Scores all documents. Grid: as many programs as run together; each takes the next block until there are none."""
    PARTS: gl.constexpr = CODES_PER_BYTE
    WIDTH: gl.constexpr = DIM // PARTS
    CODE: gl.constexpr = p_codes.dtype.element_ty
    BITS: gl.constexpr = CODE.primitive_bitwidth
    INTEGERS: gl.constexpr = p_queries.dtype.element_ty == gl.int8
    RESIDUALS: gl.constexpr = PARTS > 1
    SUM: gl.constexpr = gl.int32 if INTEGERS else gl.float32
    QUERY: gl.constexpr = gl.DotOperandLayout(0, _MMA, 32 // BITS)
    DOCUMENT: gl.constexpr = gl.DotOperandLayout(1, _MMA, 32 // BITS)
    NUMBERS: gl.constexpr = 128 // BITS  # in 16 bytes
    COPY: gl.constexpr = gl.BlockedLayout([1, NUMBERS], [32 * NUMBERS // WIDTH, WIDTH // NUMBERS], [1, 1], [1, 0])
    # Columns of codes multiplied at a time: where each becomes several numbers, all of them take too many registers.
    BLOCK: gl.constexpr = 32 if RESIDUALS else DIM
    LOAD: gl.constexpr = gl.BlockedLayout([1, NUMBERS], [32 * NUMBERS // BLOCK, BLOCK // NUMBERS], [1, 1], [1, 0])
    SWIZZLED: gl.constexpr = gl.NVMMASharedLayout(min(WIDTH * BITS // 8, 128), BITS, 2)

    row = gl.arange(0, ROWS, gl.SliceLayout(1, LOAD))
    column = gl.arange(0, BLOCK, gl.SliceLayout(0, LOAD))
    p_numbers = p_queries + (row * DIM)[:, None] + column[None, :]
    queries = (gl.convert_layout(gl.load(p_numbers), QUERY),)
    for k in gl.static_range(BLOCK, DIM, BLOCK):
        queries = queries + (gl.convert_layout(gl.load(p_numbers + k), QUERY),)
    none = _maxima(gl.zeros([ROWS, LANES], gl.float32, _MMA)) - float("inf")
    running = none
    weights = gl.load(p_weights + gl.arange(0, ROWS, gl.max(none, axis=1).type.layout))
    if RESIDUALS:
        words = _load_words(p_bucket_weights, 4 if PARTS == 2 else 1)
        low = gl.expand_dims(gl.expand_dims(gl.arange(0, 8, gl.SliceLayout(0, gl.SliceLayout(2, _BEGIN))), 0), 2)
        high = gl.expand_dims(gl.expand_dims(gl.arange(0, 4, gl.SliceLayout(0, gl.SliceLayout(1, _BEGIN))), 0), 1)
        p_begins = p_products + (low * 4 + high)

    lane = gl.arange(0, LANES, _LANE)
    copied = gl.arange(0, LANES, gl.SliceLayout(1, COPY))
    copied_column = gl.arange(0, WIDTH, gl.SliceLayout(0, COPY))
    tiles = gl.allocate_shared_memory(CODE, [STAGES, LANES, WIDTH], SWIZZLED)
    stored = (p_offsets, p_live, p_scores, p_tickets)
    cut = (documents, block_documents, large_blocks, last_documents, blocks)
    no_starts = gl.zeros([LANES], gl.int64, _LANE)
    no_lengths = gl.zeros([LANES], gl.int32, _LANE)
    no_row = gl.to_tensor(0).to(gl.int64)
    ticket = gl.atomic_add(p_tickets, 1, sem="relaxed")
    found, start, length, starts, lengths, first, ticket = _next_document(
        LANES, no_starts, no_lengths, no_row, ticket, stored, cut
    )
    place = 0
    issued = 0
    done = 1 - STAGES
    # Of the tiles on their way, the oldest first: the document that ends with it or -1, its tokens' scales, centroids.
    # Each is made by itself: of variables that begin as one value, the language sees a loop change one alone.
    gl.static_assert(STAGES == 4)
    end_0 = gl.to_tensor(-1).to(gl.int64)
    end_1 = gl.to_tensor(-1).to(gl.int64)
    end_2 = gl.to_tensor(-1).to(gl.int64)
    if INTEGERS:
        scale_0 = gl.zeros([LANES], gl.float16, _LANE)
        scale_1 = gl.zeros([LANES], gl.float16, _LANE)
        scale_2 = gl.zeros([LANES], gl.float16, _LANE)
    if RESIDUALS:
        id_0 = gl.zeros([LANES], gl.int16, _LANE)
        id_1 = gl.zeros([LANES], gl.int16, _LANE)
        begin = gl.zeros([LANES, 8, 4], gl.int32, _BEGIN)
    while done < issued:
        async_copy.wait_group(STAGES - 2)
        barrier()  # All lanes' copies of tile `done` have arrived, and all lanes are through with the tile before it.
        end_3 = gl.to_tensor(-1).to(gl.int64)
        if INTEGERS:
            scale_3 = scale_2
        if RESIDUALS:
            id_2 = id_1
        if found < LANES:
            left = length - place
            p_tile = p_codes + (start + place) * WIDTH
            p_copied = p_tile + (gl.minimum(copied, left - 1) * WIDTH)[:, None] + copied_column[None, :]
            async_copy.async_copy_global_to_shared(tiles.index(issued % STAGES), p_copied)
            tokens = start + place + gl.minimum(lane, left - 1)
            if INTEGERS:
                scale_3 = gl.load(p_scales + tokens)
            if RESIDUALS:
                id_2 = gl.load(p_centroid_ids + tokens)
            issued += 1
            place += LANES
            if left <= LANES:
                end_3 = first + found
                place = 0
                found, start, length, starts, lengths, first, ticket = _next_document(
                    found + 1, starts, lengths, first, ticket, stored, cut
                )
        async_copy.commit_group()
        if RESIDUALS:
            sums = gl.convert_layout(gl.reshape(gl.permute(begin, [2, 1, 0]), [ROWS, LANES]), _MMA)
            # Of the tile after this one, so that they are there by then.
            centroids = gl.convert_layout(id_0, gl.SliceLayout(1, gl.SliceLayout(2, _BEGIN))).to(gl.int64) & 0xFFFF
            begin = gl.load(p_begins + gl.expand_dims(gl.expand_dims(centroids * ROWS, 1), 2))
        else:
            sums = gl.zeros([ROWS, LANES], SUM, _MMA)
        if done >= 0:
            tile = tiles.index(done % STAGES).permute([1, 0])
            if RESIDUALS:
                for k in gl.static_range(0, WIDTH, BLOCK):
                    parts = _bucket_weights(tile.slice(k, BLOCK, dim=0).load(DOCUMENT), words, PARTS)
                    for part in gl.static_range(PARTS):
                        sums = mma_v2(queries[(part * WIDTH + k) // BLOCK], parts[part], sums)
            else:
                sums = mma_v2(queries[0], tile.load(DOCUMENT), sums)
            dots = sums.to(gl.float32)
            if INTEGERS:
                dots *= gl.convert_layout(scale_0, gl.SliceLayout(0, _MMA)).to(gl.float32)[None, :]
            running = gl.maximum(running, _maxima(dots))
            if end_0 >= 0:
                # `where` also keeps the compiler from fusing product and sum, which would round otherwise.
                score = _sum_of_rows(gl.where(weights != 0, gl.max(running, axis=1) * weights, 0.0))
                gl.store(p_scores + end_0, score)
                running = none
        done += 1
        end_0 = end_1
        end_1 = end_2
        end_2 = end_3
        if INTEGERS:
            scale_0 = scale_1
            scale_1 = scale_2
            scale_2 = scale_3
        if RESIDUALS:
            id_0 = id_1
            id_1 = id_2
