"""MaxSim on the CPU: lays queries out for the compiled loops of kernels.py, and shares the documents among threads.

A matrix product with a segment maximum after it would write every dot product to memory and read it back, its bits
would depend on the batch (MKL's and OpenBLAS's change with fewer than 16 columns), and its threads wait for each other
at every block. Milliseconds for 10,000 documents of 66 tokens x 128 (median 49), queries of 32 tokens, on 2 cores of an
EPYC with AVX-512, VNNI and AVX512-BF16, medians of one run; torch multiplies packed tokens and takes segments' maxima:

    queries  float32  float16  bfloat16  float8  int8  residual4  residual2   torch float32  bfloat16  maxsim-cpu
          1     32.6     32.6      18.3    20.9  13.2       17.5       17.7            74.9      36.0       117.7
          8      213      215       112     114    67         83         79             350       161         919

The multiplications alone take 184 ms of the 213 (3.7 GHz, 32 a cycle).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from tridex.kernels.approximation import Approximation
from tridex.kernels.arrays import NUMBERS_AT_A_TIME, tensor_over
from tridex.kernels.codec import Codec
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.scaling import ScaledQueries, scale_queries, scale_tokens, unscaled
from tridex.kernels.segment import Segment
from tridex.kernels.top_k import sort_keys, top_k_of_keys

from .codes import Reading, reading_of, reads
from .kernels import explain_rows, score_blocks
from .margins import margins
from .register_tile import FLOATS, HAS_QUADS, LANES, NUMBERS_PER_WORD, PAIRS, PANEL, QUADS
from .similarity import Queries
from .token_tile import TILE_TOKENS, Tokens

__all__ = [
    "approximates",
    "batches_of_each_variant",
    "choose",
    "explain",
    "reads",
    "rescore",
    "search",
    "search_workspace_bytes",
]

_LANES_PER_PASS = 256
"""Query tokens that share a pass over the documents: their panels, 128 KiB of float32 at 128 dimensions, stay in L2."""

_PRODUCTS_PER_BLOCK = 1 << 22
"""Multiplications in a block of documents: 0.1 ms of float32, or less."""

_PRODUCTS_PER_THREAD = 1 << 24
"""Fewest multiplications worth a thread: 0.3 ms; waking one costs 0.05 ms."""

_FEWEST_PRODUCTS = 1 << 27
"""Of a search that is worth an approximation: 2 ms of float32 on two cores. What comes beside products takes 0.5 ms."""

_LEFT = 2
"""One in so many products and documents at the most may be left to score exactly."""

_DOCUMENTS_PER_HIT = 4
"""Fewest live documents for each of the top_k in such a search: there are always as many candidates."""

_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set as numba starts
"""The cores that this process may use; the environment variable of that name says otherwise. torch's number is another
in every thread, and in a new one whatever was set last, for whichever: searches ran on one core because a thread in the
background had asked for one."""

_OFFSET = np.uint8(128)
"""What codes.py adds to integers to make them unsigned."""

_NO_SCALES, _NO_IDS, _NO_CENTROIDS = np.empty((0, 2), np.uint8), np.empty(0, np.uint16), np.empty((0, 0), np.uint8)


def approximates(codec: Codec) -> bool:
    """Where products of float32 numbers would be replaced by those of integers, at four times the rate.

    Beside bfloat16's pairs, at twice float32's rate, 16 queries on float8 codes were only 1.25 times as fast.
    """
    return HAS_QUADS and reads(codec) and reading_of(codec, 1).words == FLOATS


def batches_of_each_variant(segment: Segment) -> tuple[int, ...]:  # noqa: ARG001
    """One: every batch runs the same code."""
    return (1,)


def choose(segment: Segment) -> None:
    """There is no choice."""


def search_workspace_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:  # noqa: ARG001
    """None: what a search needs is a few numbers for each document."""
    return 0


def search(
    queries: torch.Tensor,
    mask: torch.Tensor | None,
    segment: Segment,
    top_k: int,
    workspace: torch.Tensor | None,  # noqa: ARG001
    approximation: Approximation | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.search."""
    scaled = scale_queries(queries, mask)
    live = np.flatnonzero(_live(segment))
    candidates = None if approximation is None else _candidates(scaled, segment, approximation, live, top_k)
    if candidates is None:
        rows = np.broadcast_to(live, (len(scaled.tokens), len(live)))
        scores = _scores(scaled, segment, live)
    else:
        rows = np.maximum(candidates, 0)  # No row scores -inf, so whatever its row is, none is returned.
        scores = _own_scores(scaled, segment, candidates)
    best = [  # One query at a time, so that torch does not wake its threads: see NUMBERS_AT_A_TIME.
        top_k_of_keys(sort_keys(query_scores, tensor_over(query_rows)), top_k)
        for query_scores, query_rows in zip(torch.split(torch.from_numpy(scores), 1), rows, strict=True)
    ]
    best_scores, best_rows = zip(*best, strict=True)
    return unscaled(torch.cat(best_scores), scaled.units), torch.cat(best_rows)


def rescore(queries: torch.Tensor, mask: torch.Tensor | None, segment: Segment, rows: torch.Tensor) -> torch.Tensor:
    """tridex.kernels.rescore."""
    scaled = scale_queries(queries, mask)
    scores = _own_scores(scaled, segment, _live_rows(segment, rows))
    return unscaled(torch.from_numpy(scores), scaled.units)


def explain(
    queries: torch.Tensor, mask: torch.Tensor | None, segment: Segment, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.explain."""
    scaled = scale_tokens(queries, mask)
    wanted = _live_rows(segment, rows)
    counts = _counts(scaled)
    tokens = np.full((*wanted.shape, counts.shape[1]), -1, np.int64)
    similarities = np.zeros(tokens.shape, np.float32)
    for i, own in enumerate(counts):
        packed = _pack(scaled, i, i + 1, segment, groups=1)
        nearest = np.empty((len(packed.scales), wanted.shape[1]), np.int64)
        largest = np.empty(nearest.shape, np.float32)
        reading, stored, offsets = _described(segment)
        explain_rows(reading, stored, offsets, packed, wanted[i : i + 1], nearest, largest)
        tokens[i][:, own] = nearest[: own.sum()].T
        similarities[i][:, own] = largest[: own.sum()].T
    return torch.from_numpy(tokens), unscaled(torch.from_numpy(similarities), scaled.units)


def _scores(queries: ScaledQueries, segment: Segment, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores [queries, n] of the same rows [n] for all."""
    scores = np.empty((len(queries.tokens), len(rows)), np.float32)
    for first, end in _passes(queries):
        packed = _pack(queries, first, end, segment, groups=1)
        _score(segment, packed, rows[None], scores[first:end])
    return scores


def _own_scores(queries: ScaledQueries, segment: Segment, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores [queries, n] of each query's own rows [queries, n]; -inf for row -1."""
    scores = np.empty(rows.shape, np.float32)
    for first, end in _passes(queries):
        packed = _pack(queries, first, end, segment, groups=end - first)
        _score(segment, packed, rows[first:end], scores[first:end])
    return scores


def _candidates(
    queries: ScaledQueries, segment: Segment, approximation: Approximation, rows: NDArray[np.int64], top_k: int
) -> NDArray[np.int64] | None:
    """Documents among which are each query's best, [queries, n], -1 for none; None where all should be scored.

    At least top_k documents score as much as the top_k-th largest of the least scores that are possible. One whose
    score cannot be as much is worse than all of these.
    """
    lengths = np.diff(segment.offsets.numpy())
    counts = _counts(queries).sum(axis=1)
    products = int(lengths[rows].sum()) * _whole_vectors(counts.sum()) * segment.dim
    if products < _FEWEST_PRODUCTS or len(rows) < _DOCUMENTS_PER_HIT * top_k or not approximation.trials.is_due(top_k):
        return None
    scores = _scores(queries, approximation.segment, rows)
    found = []
    for of_query, margin in zip(scores, margins(queries, segment.codec, approximation, rows), strict=True):
        with np.errstate(invalid="ignore"):  # an infinite score less, or plus, an infinite margin
            least = np.nan_to_num(of_query - margin, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
            threshold = np.partition(least, -top_k)[-top_k]
            found.append(rows[~(of_query + margin < threshold)])  # So written, NaN is kept.
    remaining = sum(
        int(lengths[some].sum()) * _whole_vectors(count) * segment.dim
        for some, count in zip(found, counts, strict=True)
    )
    widest = max(map(len, found))
    # Each query has as many places for candidates as the one with the most.
    helped = remaining <= products // _LEFT and widest <= len(rows) // _LEFT
    approximation.trials.judge(top_k, helped)
    if not helped:
        return None
    candidates = np.full((len(found), widest), -1)
    for own, some in zip(candidates, found, strict=True):
        own[: len(some)] = some
    return candidates


def _whole_vectors(lanes: int) -> int:
    return -(-int(lanes) // LANES) * LANES


def _live(segment: Segment) -> NDArray[np.bool_]:
    words = segment.live.numpy().view(np.uint8)
    return np.unpackbits(words, count=segment.documents, bitorder="little").view(np.bool_)


def _live_rows(segment: Segment, rows: torch.Tensor) -> NDArray[np.int64]:
    """The rows, and -1 for one that is not live or not in the segment."""
    live = np.append(_live(segment), False)
    wanted = rows.numpy()
    wanted = np.where((wanted >= 0) & (wanted < segment.documents), wanted, segment.documents)
    return np.where(live[wanted], wanted, -1)


def _counts(queries: ScaledQueries) -> NDArray[np.bool_]:
    """Which tokens count: bool [batch, tokens]."""
    counts: NDArray[np.bool_] = queries.weights.numpy() != 0
    return counts


def _passes(queries: ScaledQueries) -> Iterator[tuple[int, int]]:
    """Cuts a batch into runs of queries, first and end, of up to _LANES_PER_PASS tokens or of one query."""
    first, lanes = 0, 0
    for i, count in enumerate(_counts(queries).sum(axis=1).tolist()):
        if i > first and lanes + count > _LANES_PER_PASS:
            yield first, i
            first, lanes = i, 0
        lanes += count
    yield first, len(queries.tokens)


def _pack(queries: ScaledQueries, first: int, end: int, segment: Segment, groups: int) -> Queries:
    """The queries from first to end in one group, or each in its own."""
    reading = reading_of(segment.codec, segment.dim)
    mask = _counts(queries)[first:end]
    tokens = torch.from_numpy(queries.tokens.numpy()[first:end][mask])
    counts = mask.sum(axis=1)
    before = np.cumsum(counts) - counts
    if groups == 1:
        panels = np.array([-(-len(tokens) // PANEL)])
        first_lanes = before
        bounds = np.array([[0, panels[0], 0, end - first]])
    else:
        panels = -(-counts // PANEL)
        first_lanes = (np.cumsum(panels) - panels) * PANEL
        bounds = np.stack([np.cumsum(panels) - panels, np.cumsum(panels), np.arange(groups), np.arange(groups) + 1], 1)
    total = int(panels.sum())
    lane_of_token = np.arange(len(tokens)) + np.repeat(first_lanes - before, counts)
    numbers, token_scales = _rounded(tokens, segment.codec, reading)
    starts = np.zeros((total, PANEL), np.int32)
    scales = np.ones(total * PANEL, np.float32)
    if token_scales is not None:
        step = 1.0 if segment.codebook is None else segment.codebook.step
        scales[lane_of_token] = token_scales * np.float32(step)
    if reading.words == QUADS:
        starts.reshape(-1)[lane_of_token] = -int(_OFFSET) * numbers.sum(axis=1, dtype=np.int32)
    words = _panels(numbers, lane_of_token, total, NUMBERS_PER_WORD[reading.words])
    scales[lane_of_token] *= queries.weights.numpy()[first:end][mask]
    return Queries(words, starts, scales, np.stack([first_lanes, first_lanes + counts], 1), bounds)


def _rounded(tokens: torch.Tensor, codec: Codec, reading: Reading) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """The rounded tokens in what words are made of, float32, bfloat16's bits in int16, or int8; and their scales."""
    numbers, scales = [], []
    for part in torch.split(tokens, max(1, NUMBERS_AT_A_TIME // tokens.shape[1])):
        rounded = DESCRIPTIONS[codec].round_queries(part)
        if reading.words == QUADS:
            numbers.append(rounded.numbers.numpy())
        elif reading.words == PAIRS:
            numbers.append((rounded.numbers.float() / DESCRIPTIONS[codec].unit).bfloat16().view(torch.int16).numpy())
        elif reading.words == FLOATS:
            numbers.append((rounded.numbers.float() / DESCRIPTIONS[codec].unit).numpy())
        else:
            raise ValueError(f"words is {reading.words}; expected FLOATS, PAIRS or QUADS")
        if rounded.scales is not None:
            scales.append(rounded.scales.numpy())
    return np.concatenate(numbers), np.concatenate(scales) if scales else None


def _panels(
    numbers: NDArray[Any], lane_of_token: NDArray[np.int64], panels: int, numbers_per_word: int
) -> NDArray[np.uint32]:
    """Numbers [tokens, dim] as words [panels, W, PANEL], zeros where no token is."""
    width = -(-numbers.shape[1] // numbers_per_word)
    lanes = np.zeros((panels * PANEL, width * numbers_per_word), numbers.dtype)
    lanes[lane_of_token, : numbers.shape[1]] = numbers
    return np.ascontiguousarray(lanes.view(np.uint32).reshape(panels, PANEL, width).transpose(0, 2, 1))


def _described(segment: Segment) -> tuple[Any, ...]:
    """The segment as the compiled loops take it."""
    weights, centroids = np.zeros(16, np.int8), _NO_CENTROIDS
    if segment.codebook is not None:
        centroids = segment.codebook.centroids.numpy().view(np.uint8)
        weights[: len(segment.codebook.bucket_weights)] = segment.codebook.bucket_weights.numpy()
    tokens = Tokens(
        segment.codes.numpy(),
        _NO_SCALES if segment.scales is None else segment.scales.numpy().view(np.uint8).reshape(-1, 2),
        _NO_IDS if segment.centroid_ids is None else segment.centroid_ids.numpy().view(np.uint16),
        centroids,
        weights.view(np.uint8) ^ _OFFSET,
    )
    return reading_of(segment.codec, segment.dim), tokens, segment.offsets.numpy()


def _score(segment: Segment, queries: Queries, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
    """Fills scores [queries, n] for rows [groups, n], on up to `_THREADS`."""
    lengths = np.append(np.diff(segment.offsets.numpy()), 0)  # Row -1 has length 0.
    tokens = np.cumsum(lengths[rows], axis=1)
    lanes = (queries.groups[:, 1] - queries.groups[:, 0]) * PANEL
    blocks = []
    for group in range(len(rows)):
        total = int(tokens[group, -1]) if rows.shape[1] else 0
        per_block = max(8 * TILE_TOKENS, _PRODUCTS_PER_BLOCK // max(1, int(lanes[group]) * segment.dim))
        cuts = np.searchsorted(tokens[group], np.arange(per_block, total, per_block))
        ends = np.append(cuts, rows.shape[1])
        blocks.append(np.stack([np.full(len(ends), group), np.append(0, cuts), ends], axis=1))
    work = int((tokens[:, -1] * lanes).sum()) * segment.dim if rows.shape[1] else 0
    counter = np.zeros(1, np.int64)
    _share(work, score_blocks, *_described(segment), queries, rows, np.concatenate(blocks), counter, scores)


def _share(products: int, function: Callable[..., None], *arguments: object) -> None:
    """Calls a function that shares its work through a counter on this thread, and on others where there is enough."""
    threads = min(_THREADS, 1 + products // _PRODUCTS_PER_THREAD)
    helpers = [_pool(os.getpid()).submit(function, *arguments) for _ in range(threads - 1)]
    function(*arguments)
    for helper in helpers:
        if not helper.cancel():  # One that has not woken yet is not waited for.
            helper.result()


@functools.cache
def _pool(_process: int) -> ThreadPoolExecutor:
    """The process is the key, because threads do not survive a fork."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="maxsim")
