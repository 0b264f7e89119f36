"""MaxSim on the CPU: every core takes documents, converts their tokens strip by strip, and scores all queries.

A matrix product with a segment maximum after it would write every dot product to memory and read it back, its bits
would depend on the batch (MKL's and OpenBLAS's change with fewer than 16 columns), and its threads wait for each other
at every block. So product and maximum are one loop (vector_tile.py), documents are independent, and a thread that loses
its core holds up nobody. Measured on 2 cores of an EPYC with AVX-512, 500,000 tokens x 128, milliseconds, best of many:

    queries x tokens                     1 x 16   1 x 32   8 x 16   8 x 32   32 x 32
    search, float16 codes                    21       34       94      169       615
    search, float32 codes                    32       42      101      179       630
    MKL's float32 product alone              33       42      107      190       999
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from . import ranking
from .codecs import Codec
from .segment import Segment
from .vector_tile import LANES, PANEL, ROWS, half_panel_tile, panel_tile

_STRIP = 64
"""Document tokens converted at a time: 32 KiB of float32 at 128 dimensions, so that they are still in L2 when read."""

_PRODUCTS_PER_TASK = 1 << 25
"""Fewest multiplications worth a task of the thread pool: half a millisecond; handing one over costs 0.05 ms."""

_TASKS_PER_THREAD = 8
"""So that a thread that got the slow documents, or lost its core, is not waited for."""

_FLOAT32, _FLOAT16, _BFLOAT16 = range(3)
_CODES = {Codec.FLOAT32: _FLOAT32, Codec.FLOAT16: _FLOAT16, Codec.BFLOAT16: _BFLOAT16}


class _Queries(NamedTuple):
    """The unmasked tokens of one or more queries, one after the other in panels."""

    panels: NDArray[np.float32]
    """[panels, dim, PANEL], zeros behind the last token."""
    ends: NDArray[np.int64]
    """[queries], the number of tokens up to each query's last."""


def search(
    queries: torch.Tensor, segment: Segment, top_k: int, query_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """tridex.kernels.search."""
    rows = np.flatnonzero(_live(segment))
    scores = np.empty((len(queries), len(rows)), np.float32)
    _score_all(segment, [(_pack(queries, query_mask, segment.codec), rows, scores)])
    return ranking.best(ranking.sort_keys(torch.from_numpy(scores), torch.from_numpy(rows)), top_k)


def rescore(queries: torch.Tensor, segment: Segment, rows: torch.Tensor, query_mask: torch.Tensor) -> torch.Tensor:
    """tridex.kernels.rescore."""
    live = np.append(_live(segment), False)
    wanted = rows.numpy()
    wanted = np.where((wanted >= 0) & (wanted < segment.documents), wanted, segment.documents)
    wanted = np.where(live[wanted], wanted, -1)
    scores = np.empty(wanted.shape, np.float32)
    _score_all(
        segment,
        [
            (_pack(queries[i : i + 1], query_mask[i : i + 1], segment.codec), wanted[i], scores[i : i + 1])
            for i in range(len(queries))
        ],
    )
    return torch.from_numpy(scores)


def _live(segment: Segment) -> NDArray[np.bool_]:
    words = segment.live.numpy().view(np.uint8)
    return np.unpackbits(words, count=segment.documents, bitorder="little").view(np.bool_)


def _pack(queries: torch.Tensor, query_mask: torch.Tensor, codec: Codec) -> _Queries:
    tokens = queries[query_mask].to(codec.dtype).float()
    count, dim = tokens.shape
    panels = np.zeros((-(-count // PANEL), dim, PANEL), np.float32)
    lanes = panels.transpose(0, 2, 1)
    lanes[np.arange(count) // PANEL, np.arange(count) % PANEL] = tokens.numpy()
    return _Queries(panels, query_mask.sum(dim=1).cumsum(dim=0).numpy())


def _score_all(segment: Segment, work: list[tuple[_Queries, NDArray[np.int64], NDArray[np.float32]]]) -> None:
    """Fills scores [queries, rows] for each (queries, rows, scores), on as many threads as torch uses."""
    threads = torch.get_num_threads()
    codes = segment.codes.numpy()
    offsets = segment.offsets.numpy()
    lengths = np.append(np.diff(offsets), 0)  # Row -1 has length 0.
    tasks: list[tuple[Any, ...]] = []
    for queries, rows, scores in work:
        tokens = np.cumsum(lengths[rows])
        total = int(tokens[-1]) if len(rows) else 0
        parts = max(1, min(total * queries.panels.size // _PRODUCTS_PER_TASK, _TASKS_PER_THREAD * threads))
        cuts = np.searchsorted(tokens, np.arange(1, parts) * total // parts).tolist()
        for first, last in zip([0, *cuts], [*cuts, len(rows)], strict=True):
            tasks.append((_CODES[segment.codec], codes, offsets, *queries, rows, first, last, scores))
    if len(tasks) == 1:
        _score(*tasks[0])
    else:
        list(_pool(os.getpid(), threads).map(_score, *zip(*tasks, strict=True)))


@functools.cache
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    """The process is part of the key, because threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="maxsim")


@njit(nogil=True)
def _score(
    codec: int,
    codes: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    panels: NDArray[np.float32],
    ends: NDArray[np.int64],
    rows: NDArray[np.int64],
    first: int,
    last: int,
    scores: NDArray[np.float32],
) -> None:
    """Fills scores[:, first:last] for the documents rows[first:last]; -inf for row -1 and a document without tokens."""
    floats = np.empty((_STRIP, panels.shape[1]), np.float32)
    best = np.empty((len(panels), PANEL), np.float32)
    for i in range(first, last):
        start, end = (offsets[rows[i]], offsets[rows[i] + 1]) if rows[i] >= 0 else (0, 0)
        if start == end:
            scores[:, i] = -np.inf
            continue
        best[:] = -np.inf
        for token in range(start, end, _STRIP):
            strip = _decode(codec, codes[token : min(token + _STRIP, end)], floats)
            for p in range(len(panels)):
                if ends[-1] - p * PANEL > LANES:
                    for t in range(0, len(strip), ROWS):
                        panel_tile(strip, t, panels[p], best[p])
                else:
                    for t in range(0, len(strip), ROWS):
                        half_panel_tile(strip, t, panels[p], best[p])
        lanes = best.reshape(-1)
        lane = 0
        for query in range(len(ends)):
            score = np.float32(0)
            while lane < ends[query]:
                score += lanes[lane]
                lane += 1
            scores[query, i] = score


@njit(nogil=True)
def _decode(codec: int, codes: NDArray[np.uint8], floats: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes uint8 [tokens, bytes] to float32 [tokens, dim], in the memory of `floats` where they need converting."""
    if codec == _FLOAT32:
        return codes.reshape(-1).view(np.float32).reshape((len(codes), floats.shape[1]))
    strip = floats[: len(codes)]
    numbers = strip.reshape(-1)
    bits = numbers.view(np.uint32)
    halves = codes.reshape(-1).view(np.uint16)
    if codec == _BFLOAT16:
        for i in range(len(halves)):
            bits[i] = np.uint32(halves[i]) << np.uint32(16)
    else:  # float16's exponent and fraction moved into float32's places, then its bias of 15 made float32's 127.
        for i in range(len(halves)):
            sign, rest = np.uint32(halves[i] & 0x8000), np.uint32(halves[i] & 0x7FFF)
            bits[i] = sign << np.uint32(16) | rest << np.uint32(13)
        for i in range(len(halves)):
            numbers[i] *= np.float32(2.0**112)
    return strip
