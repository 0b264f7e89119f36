"""The largest sort keys of a stream, kept in device memory: device code. tridex.kernels.top_k says what a key is.

Keys that beat a threshold are appended to a buffer. When it is full, the `kept` largest stay, and the least of them is
the new threshold: after a few thousand documents hardly a key is written. Keys are never equal, so what stays does not
depend on the order in which they came.

How many keys are looked at together is a matter of the range that a function is given, tl.arange(0, n): in Gluon it has
a layout, which is the kernel's business (gluon/).
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from .queries import unscaled

LOWEST_KEY = tl.constexpr(-(2**63))
"""Below every key."""

_FEW = tl.constexpr(512)
"""Keys whose order is found sooner by comparing all of them than by halving an interval first."""

HIGHEST_KEY = tl.constexpr(2**63 - 1)
NO_DOCUMENT = tl.constexpr(-(2**63) + (0x7FFFFF << 32))
"""The key of the score -inf and the last row there can be."""


@triton.jit
def sort_keys(scores, rows):
    """int64 keys of fp32 scores and int64 rows. Adding 0 makes -0.0 into 0.0."""
    bits = (scores + 0.0).to(tl.int32, bitcast=True)
    return ((bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64) << 32) | (0xFFFFFFFF - rows)


@triton.jit
def scores_and_rows(keys):
    """What sort_keys was given: fp32 and int64; the row -1 for the score -inf."""
    ordered = (keys >> 32).to(tl.int32)
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    return scores, tl.where(scores == float("-inf"), -1, 0xFFFFFFFF - (keys & 0xFFFFFFFF))


@triton.jit
def best_of_keys(p_keys, count, top_k, unit, p_scores, p_rows, numbers, places, others):
    """Stores scores, times `unit`, and rows of the largest of `count` different keys, in order; overwrites the keys.

    A key's place is the number of larger ones. numbers, places, others: ranges, of keep_largest and of keys that are
    compared with keys.
    """
    if count > tl.maximum(top_k, _FEW):
        keep_largest(p_keys, count, top_k, numbers)
        count = tl.minimum(count, top_k)
    for first in range(0, tl.maximum(count, top_k), places.shape[0]):
        place = first + places
        keys = tl.load(p_keys + place, mask=place < count, other=LOWEST_KEY)
        larger = places * 0
        for first_other in range(0, count, others.shape[0]):
            other = first_other + others
            other_keys = tl.load(p_keys + other, mask=other < count, other=LOWEST_KEY)
            larger += tl.sum((other_keys[None, :] > keys[:, None]).to(tl.int32), axis=1)
        scores, rows = scores_and_rows(keys)
        out = tl.where(place < count, larger, place)
        tl.store(p_scores + out, tl.where(place < count, unscaled(scores, unit), float("-inf")), mask=out < top_k)
        tl.store(p_rows + out, tl.where(place < count, rows, -1), mask=out < top_k)


@triton.jit
def clear_keys(p_buffer, split, kept, numbers):
    """Fills a buffer's first places with keys of no document: what is left there if fewer are appended. They differ
    from each other, and from those of other splits."""
    for first in range(0, kept, numbers.shape[0]):
        place = first + numbers
        empty = tl.cast(split, tl.int64) * kept + place + NO_DOCUMENT
        tl.store(p_buffer + place, empty, mask=place < kept)
    tl.debug_barrier()


@triton.jit
def append_keys(p_buffers, counts, keys, better):
    """Appends the better ones of keys [queries, n] to the buffers [queries], and returns the new counts."""
    tl.store(p_buffers[:, None] + counts[:, None] + tl.cumsum(better.to(tl.int32), axis=1) - 1, keys, mask=better)
    return counts + tl.sum(better.to(tl.int32), axis=1)


@triton.jit
def _reaching(p_buffer, count, key, numbers):
    """How many of a buffer's keys are at least `key`."""
    reached = numbers * 0
    for first in range(0, count, numbers.shape[0]):
        place = first + numbers
        keys = tl.load(p_buffer + place, mask=place < count, other=LOWEST_KEY)
        reached += (keys >= key).to(tl.int32)
    return tl.sum(reached)


@triton.jit
def keep_largest(p_buffer, count, kept, numbers):
    """Moves the `kept` largest of `count` different keys, kept < count, to the front. Returns one that only they reach.

    Halves the interval between the least and the largest key until `kept` keys reach its lower end. Barriers make the
    stores of other threads visible, and keep them behind the loads.
    """
    tl.debug_barrier()
    low = tl.cast(HIGHEST_KEY, tl.int64)
    high = tl.cast(LOWEST_KEY, tl.int64)
    for first in range(0, count, numbers.shape[0]):
        place = first + numbers
        keys = tl.load(p_buffer + place, mask=place < count, other=LOWEST_KEY)
        high = tl.maximum(high, tl.max(keys))
        low = tl.minimum(low, tl.min(tl.where(place < count, keys, HIGHEST_KEY)))
    reached = count
    while reached > kept:
        middle = (low & high) + ((low ^ high) >> 1) + 1
        above = _reaching(p_buffer, count, middle, numbers)
        reached = tl.where(above >= kept, above, reached)
        high = tl.where(above >= kept, high, middle - 1)
        low = tl.where(above >= kept, middle, low)
    written = 0
    for first in range(0, count, numbers.shape[0]):
        place = first + numbers
        keys = tl.load(p_buffer + place, mask=place < count, other=LOWEST_KEY)
        stays = (keys >= low) & (place < count)
        tl.debug_barrier()
        tl.store(p_buffer + written + tl.cumsum(stays.to(tl.int32)) - 1, keys, mask=stays)
        written += tl.sum(stays.to(tl.int32))
    tl.debug_barrier()
    return low
