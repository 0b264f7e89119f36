"""A consumer's best sort keys: as top_k.py keeps them, for one warpgroup."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from tridex.kernels.gpu.documents import document_spans
from tridex.kernels.gpu.top_k import HIGHEST_KEY, LOWEST_KEY, NO_DOCUMENT, append_keys, sort_keys

from . import roles
from .producer import DOCUMENTS
from .tiles import barrier

WARPS = gl.constexpr(roles.WARPS)
"""Of a consumer."""

_CHUNK = gl.constexpr(256)
"""Keys looked at together."""

_PLACES = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))


@gluon.jit
def clear_keys(p_buffer, split, kept):
    """top_k.py's."""
    for first in range(0, kept, _CHUNK):
        place = first + gl.arange(0, _CHUNK, _PLACES)
        gl.store(p_buffer + place, split.to(gl.int64) * kept + place + NO_DOCUMENT, mask=place < kept)


@gluon.jit
def _reaching(p_buffer, count, key):
    reached = 0
    for first in range(0, count, _CHUNK):
        place = first + gl.arange(0, _CHUNK, _PLACES)
        keys = gl.load(p_buffer + place, mask=place < count, other=LOWEST_KEY)
        reached += gl.sum((keys >= key).to(gl.int32), axis=0)
    return reached


@gluon.jit
def keep_largest(p_buffer, count, kept):
    """top_k.py's: moves the `kept` largest of `count` keys to the front, and returns one that only they reach."""
    barrier()
    low = gl.to_tensor(HIGHEST_KEY).to(gl.int64)
    high = gl.to_tensor(LOWEST_KEY).to(gl.int64)
    for first in range(0, count, _CHUNK):
        place = first + gl.arange(0, _CHUNK, _PLACES)
        keys = gl.load(p_buffer + place, mask=place < count, other=LOWEST_KEY)
        high = gl.maximum(high, gl.max(keys, axis=0))
        low = gl.minimum(low, gl.min(gl.where(place < count, keys, HIGHEST_KEY), axis=0))
    reached = count
    while reached > kept:
        middle = (low & high) + ((low ^ high) >> 1) + 1
        above = _reaching(p_buffer, count, middle)
        reached = gl.where(above >= kept, above, reached)
        high = gl.where(above >= kept, high, middle - 1)
        low = gl.where(above >= kept, middle, low)
    written = 0
    for first in range(0, count, _CHUNK):
        place = first + gl.arange(0, _CHUNK, _PLACES)
        keys = gl.load(p_buffer + place, mask=place < count, other=LOWEST_KEY)
        stays = ((keys >= low) & (place < count)).to(gl.int32)
        barrier()
        rank = gl.associative_scan(stays, 0, _plus) - 1
        gl.store(p_buffer + written + rank, keys, mask=stays != 0)
        written += gl.sum(stays, axis=0)
    barrier()
    return low


@gluon.jit
def _plus(one, other):
    return one + other


@gluon.jit
def append_block(
    first_document,
    size,
    documents,
    first_query,
    end_query,
    subtiles,
    p_offsets,
    p_live,
    p_sums,
    p_buffers,  # int64 pointers [SUBTILES]: each query's buffer
    counts,
    thresholds,
    SUBTILES: gl.constexpr,
    KEYS: gl.constexpr,
):
    """Appends the keys of a block that beat the thresholds, once all its sums are stored; returns the new counts."""
    barrier()
    place = gl.arange(0, DOCUMENTS, gl.SliceLayout(0, KEYS))
    query = gl.arange(0, SUBTILES, gl.SliceLayout(1, KEYS))
    rows = first_document + place
    _, lengths = document_spans(p_offsets, p_live, rows, (place < size) & (rows < documents))
    ended = (lengths > 0)[None, :] & (query >= 0)[:, None]
    known = ended & (query < end_query - first_query)[:, None]
    p_own = p_sums + (gl.associative_scan(ended.to(gl.int32), 1, _plus) - 1) * WARPS
    scores = gl.zeros([SUBTILES, DOCUMENTS], gl.float32, KEYS)
    for i in range(subtiles):  # as documents.py's query_scores
        subtile = (query * subtiles + i)[:, None]
        if SUBTILES == WARPS:
            scores += gl.load(p_own + subtile, mask=known, other=0.0)
        else:
            even = gl.load(p_own + subtile * 2, mask=known, other=0.0)
            scores += even + gl.load(p_own + subtile * 2 + 1, mask=known, other=0.0)
    keys = sort_keys(scores, rows[None, :])
    counts = append_keys(p_buffers, counts, keys, known & (keys > thresholds[:, None]))
    barrier()
    return counts
