"""The scores of one query on an H100 or H200: Gluon, programs of one warp.

A query of up to 32 tokens is half of what a warpgroup multiplies, and warps that share it wait for each other at every
tile. So each warp is a program: the query's tokens stay in its registers, as rows of mma.sync, and tiles of 32 tokens
of one document, as columns, come by asynchronous copies, three of them on their way (two in a rescore of residual
codes, which waits for centroids, too). Nothing is shared, so there are no barriers but those of a warp with itself, and
nothing that could wait for ever.

A document's last tile repeats its last token, as chunks do (documents.py). Residual codes are looked up in registers,
straight into operands. In a search sums begin with the query's products with the tokens' centroids, of a table made
before; in a rescore, too short for a table, centroids are copied beside the codes and added to what is looked up. Both
are 128 bytes a token, read from L2.

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
from tridex.kernels.gpu.codes import SIGNED
from tridex.kernels.gpu.documents import document_spans
from tridex.kernels.gpu.kernels import CALLERS, block_span
from tridex.kernels.gpu.queries import unscaled

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
_WEIGHTS_OPERANDS_4_BITS = gl.constexpr("=&r,=&r" + ",r" * 17)
_WEIGHTS_OPERANDS_2_BITS = gl.constexpr("=&r,=&r,=&r,=&r" + ",r" * 5)
_DECODE_4_BITS = gl.constexpr(ptx.DECODE_4_BITS)
_DECODE_2_BITS = gl.constexpr(ptx.DECODE_2_BITS)
_DECODE_OPERANDS_4_BITS = gl.constexpr("=&r,=&r" + ",r" * 19)
_DECODE_OPERANDS_2_BITS = gl.constexpr("=&r,=&r,=&r,=&r" + ",r" * 9)


@gluon.jit
def _load_words(p_bucket_weights, WORDS: gl.constexpr, SIGNS: gl.constexpr):
    """All bucket weights, four in an int32: as they are, or 128 above, as what adds centroids has them (codes.py)."""
    p_words = p_bucket_weights.to(gl.pointer_type(gl.int32))
    words = (gl.load(p_words) ^ SIGNS,)
    for i in gl.static_range(1, WORDS):
        words = words + (gl.load(p_words + i) ^ SIGNS,)
    return words


@gluon.jit
def _bucket_weights(codes, words, PARTS: gl.constexpr):
    """int8 of packed codes, for each code of a byte."""
    if PARTS == 2:
        weights = gl.inline_asm_elementwise(
            _WEIGHTS_4_BITS,
            _WEIGHTS_OPERANDS_4_BITS,
            [codes, words[0], words[1], words[2], words[3]],
            dtype=(gl.int8, gl.int8),
            is_pure=True,
            pack=4,
        )
    else:
        weights = gl.inline_asm_elementwise(
            _WEIGHTS_2_BITS,
            _WEIGHTS_OPERANDS_2_BITS,
            [codes, words[0]],
            dtype=(gl.int8, gl.int8, gl.int8, gl.int8),
            is_pure=True,
            pack=4,
        )
    return weights


@gluon.jit
def _decoded(codes, centroids, first, words, PARTS: gl.constexpr, LAYOUT: gl.constexpr):
    """The numbers int8 of packed codes [bytes, tokens], for each code of a byte.

    centroids: of the tokens, int8 [dimensions, tokens] in shared memory. first: the first byte's place.
    """
    BLOCK: gl.constexpr = codes.shape[0]
    WIDTH: gl.constexpr = centroids.shape[0] // PARTS
    first_part = centroids.slice(first, BLOCK, dim=0).load(LAYOUT)
    second_part = centroids.slice(WIDTH + first, BLOCK, dim=0).load(LAYOUT)
    if PARTS == 2:
        numbers = gl.inline_asm_elementwise(
            _DECODE_4_BITS,
            _DECODE_OPERANDS_4_BITS,
            [codes, first_part, second_part, words[0], words[1], words[2], words[3]],
            dtype=(gl.int8, gl.int8),
            is_pure=True,
            pack=4,
        )
    else:
        third_part = centroids.slice(2 * WIDTH + first, BLOCK, dim=0).load(LAYOUT)
        fourth_part = centroids.slice(3 * WIDTH + first, BLOCK, dim=0).load(LAYOUT)
        numbers = gl.inline_asm_elementwise(
            _DECODE_2_BITS,
            _DECODE_OPERANDS_2_BITS,
            [codes, first_part, second_part, third_part, fourth_part, words[0]],
            dtype=(gl.int8, gl.int8, gl.int8, gl.int8),
            is_pure=True,
            pack=4,
        )
    return numbers


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
def _next_document(passed, starts, lengths, first, ticket, p_rows, stored, cut):
    """The next document with tokens: its lane in a block, its first token and length.

    passed: Lanes of the block that have had their turn. starts, lengths: of the block's documents, a lane each. first:
    the place of the block's first score. ticket: of the next block. They are returned anew, for the document may be in
    another block; where there is none any more, its lane is LANES. Documents without tokens are given their score on
    the way, as are rows that no document has.
    """
    p_offsets, p_live, p_scores, p_tickets = stored
    documents, scores, block_documents, large_blocks, last_documents, blocks = cut
    lane = gl.arange(0, LANES, _LANE)
    found = gl.min(gl.where((lane >= passed) & (lengths > 0), lane, LANES), axis=0)
    while (found == LANES) & (ticket < blocks):
        first, size = block_span(ticket, block_documents, large_blocks, last_documents)
        ticket = gl.num_programs(0) + gl.atomic_add(p_tickets, 1, sem="relaxed")
        place = first + lane
        known = (lane < size) & (place < scores)
        if p_rows is None:
            starts, lengths = document_spans(p_offsets, p_live, place, known)
        else:
            rows = gl.load(p_rows + place, mask=known, other=-1)
            starts, lengths = document_spans(p_offsets, p_live, rows, (rows >= 0) & (rows < documents))
        gl.store(p_scores + place, float("-inf"), mask=known & (lengths == 0))
        found = gl.min(gl.where(lengths > 0, lane, LANES), axis=0)
    start = gl.sum(gl.where(lane == found, starts, 0), axis=0)
    length = gl.sum(gl.where(lane == found, lengths, 0), axis=0)
    return found, start, length, starts, lengths, first, ticket


@gluon.jit(
    do_not_specialize=["documents", "scores", "block_documents", "large_blocks", "last_documents", "blocks"],
    do_not_specialize_on_alignment=[*CALLERS, "p_scores", "p_tickets"],
)
def score_documents(
    p_queries,  # these, up to p_live: as in kernels.py, of one query
    p_weights,
    p_units,
    p_codes,
    p_scales,
    p_centroid_ids,
    p_centroids,
    p_bucket_weights,
    p_offsets,
    p_live,
    p_products,  # int32 [centroids, 8, 4]: made by prepare_with_centroids (single_query.py); None where there are none
    p_rows,  # int64 [scores]: the documents to score; None for all of them
    p_scores,  # out: fp32 [scores], -inf where a document has no token or is not live; of rows, times the query's unit
    p_tickets,  # int32: blocks given out behind the first one of each program; 0 in the beginning
    documents,
    scores,
    block_documents,  # at most LANES; this, up to blocks: as in kernels.py
    large_blocks,
    last_documents,
    blocks,
    CODES_PER_BYTE: gl.constexpr,
    DIM: gl.constexpr,
    STAGES: gl.constexpr,
):
    """Scores documents. Grid: as many programs as run together; each takes the next block until there are none.

    Its first block is the one of its own number, for which it does not wait.
    """
    PARTS: gl.constexpr = CODES_PER_BYTE
    WIDTH: gl.constexpr = DIM // PARTS
    CODE: gl.constexpr = p_codes.dtype.element_ty
    BITS: gl.constexpr = CODE.primitive_bitwidth
    INTEGERS: gl.constexpr = p_queries.dtype.element_ty == gl.int8
    RESIDUALS: gl.constexpr = PARTS > 1
    CENTROIDS: gl.constexpr = RESIDUALS and p_products is None
    TABLE: gl.constexpr = RESIDUALS and not CENTROIDS
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
        words = _load_words(p_bucket_weights, 4 if PARTS == 2 else 1, SIGNED if CENTROIDS else 0)
    if TABLE:
        low = gl.expand_dims(gl.expand_dims(gl.arange(0, 8, gl.SliceLayout(0, gl.SliceLayout(2, _BEGIN))), 0), 2)
        high = gl.expand_dims(gl.expand_dims(gl.arange(0, 4, gl.SliceLayout(0, gl.SliceLayout(1, _BEGIN))), 0), 1)
        p_begins = p_products + (low * 4 + high)

    lane = gl.arange(0, LANES, _LANE)
    copied = gl.arange(0, LANES, gl.SliceLayout(1, COPY))
    copied_column = gl.arange(0, WIDTH, gl.SliceLayout(0, COPY))
    tiles = gl.allocate_shared_memory(CODE, [STAGES, LANES, WIDTH], SWIZZLED)
    if CENTROIDS:
        COPY_ROWS: gl.constexpr = gl.BlockedLayout([1, 16], [512 // DIM, DIM // 16], [1, 1], [1, 0])
        ROW_IDS: gl.constexpr = gl.SliceLayout(1, COPY_ROWS)
        copied_dimension = gl.arange(0, DIM, gl.SliceLayout(0, COPY_ROWS))
        centroid_tiles = gl.allocate_shared_memory(gl.int8, [2, LANES, DIM], gl.NVMMASharedLayout(DIM, 8, 2))
    stored = (p_offsets, p_live, p_scores, p_tickets)
    cut = (documents, scores, block_documents, large_blocks, last_documents, blocks)
    no_starts = gl.zeros([LANES], gl.int64, _LANE)
    no_lengths = gl.zeros([LANES], gl.int32, _LANE)
    no_row = gl.to_tensor(0).to(gl.int64)
    found, start, length, starts, lengths, first, ticket = _next_document(
        LANES, no_starts, no_lengths, no_row, gl.program_id(0), p_rows, stored, cut
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
    if TABLE:
        begin = gl.zeros([LANES, 8, 4], gl.int32, _BEGIN)
    while done < issued:
        if CENTROIDS:
            async_copy.wait_group(1)  # The last group but one is tile `done`'s centroids.
        else:
            async_copy.wait_group(STAGES - 2)
        barrier()  # All lanes' copies of tile `done` have arrived, and all lanes are through with the tile before it.
        if CENTROIDS:
            # Of the tile after this one, so that they are there by then.
            ids = gl.convert_layout(id_0, ROW_IDS).to(gl.int64) & 0xFFFF
            p_copied_rows = p_centroids + (ids * DIM)[:, None] + copied_dimension[None, :]
            async_copy.async_copy_global_to_shared(centroid_tiles.index((done + 1) & 1), p_copied_rows)
            async_copy.commit_group()
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
                    found + 1, starts, lengths, first, ticket, p_rows, stored, cut
                )
        async_copy.commit_group()
        if TABLE:
            sums = gl.convert_layout(gl.reshape(gl.permute(begin, [2, 1, 0]), [ROWS, LANES]), _MMA)
            # Of the tile after this one, as well.
            centroids = gl.convert_layout(id_0, gl.SliceLayout(1, gl.SliceLayout(2, _BEGIN))).to(gl.int64) & 0xFFFF
            begin = gl.load(p_begins + gl.expand_dims(gl.expand_dims(centroids * ROWS, 1), 2))
        else:
            sums = gl.zeros([ROWS, LANES], SUM, _MMA)
        if done >= 0:
            tile = tiles.index(done % STAGES).permute([1, 0])
            if RESIDUALS:
                for k in gl.static_range(0, WIDTH, BLOCK):
                    packed = tile.slice(k, BLOCK, dim=0).load(DOCUMENT)
                    if CENTROIDS:
                        centroids = centroid_tiles.index(done & 1).permute([1, 0])
                        parts = _decoded(packed, centroids, k, words, PARTS, DOCUMENT)
                    else:
                        parts = _bucket_weights(packed, words, PARTS)
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
                if p_rows is not None:
                    score = unscaled(score, gl.load(p_units))
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
    if CENTROIDS:
        async_copy.wait_group(0)  # Those of the tile that never came are on their way.
