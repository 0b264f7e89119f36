"""A Gluon kernel against its plain twin, on the device at hand: it serves only if every bit agrees.

Gluon does not run in the interpreter, its interface moves between releases, and what it leaves to its author (barriers,
layouts) fails by the device: so no test before counts for as much as this one, at warm-up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from tridex.kernels.codecs import Codec
from tridex.kernels.segment import Segment, pack_bitmap

Search = Callable[[torch.Tensor, torch.Tensor, Segment, int], tuple[torch.Tensor, torch.Tensor]]
"""Of queries, their mask, a segment and top_k: scores and rows."""

_log = logging.getLogger(__name__)

_chosen: set[tuple[torch.device, Codec]] = set()

_SHAPES = [(8, 32, 10), (21, 9, 300), (5, 64, 1)]
"""Queries, their tokens, top_k: a program's queries and all of its tokens; several programs, the last with few queries;
queries of two subtiles."""

_RUNS = 3
"""Of each shape: programs that wait for each other do not do so the same way twice."""

_LONGEST_S = 60.0
"""Until a kernel that takes milliseconds is given up, compiled before."""


def is_chosen(device: torch.device, codec: Codec) -> bool:
    """Whether the codec's Gluon kernel agreed with its twin on the device."""
    return (device, codec) in _chosen


def choose(segment: Segment, plain: Search, fast: Search) -> None:
    """Has both search a probe, and remembers whether their results have the same bits; one log line if not.

    Args:
        segment: Of the codec, dim and device.
        plain: The search that is right.
        fast: The search that is to stand for it.

    Raises:
        RuntimeError: The kernel does not come to an end: the device is of no more use to the process.
    """
    device, codec = segment.device, segment.codec
    try:
        agree = _agree(device, codec, segment.dim, plain, fast)
    except _StalledError as error:
        raise RuntimeError(f"the Gluon kernel of {codec.value} did not come to an end on {device}") from error
    except Exception as error:  # Whatever a version of the language or of the driver says to it.
        _log.warning("the Gluon kernel of %s does not run on %s, the plain one serves: %s", codec.value, device, error)
    else:
        if agree:
            _chosen.add((device, codec))
        else:
            _log.warning("the Gluon kernel of %s is wrong on %s, the plain one serves", codec.value, device)


class _StalledError(Exception):
    pass


def _agree(device: torch.device, codec: Codec, dim: int, plain: Search, fast: Search) -> bool:
    segment = probe_segment(device, codec, dim)
    for batch, tokens, top_k in _SHAPES:
        queries, mask = probe_queries(device, batch, tokens, dim)
        expected = plain(queries, mask, segment, top_k)
        for _ in range(_RUNS):
            found = fast(queries, mask, segment, top_k)
            _wait_for(device)
            if not all(torch.equal(_bits(one), _bits(other)) for one, other in zip(found, expected, strict=True)):
                return False
    return True


def _bits(results: torch.Tensor) -> torch.Tensor:
    return results.view(torch.uint8)


def _wait_for(device: torch.device) -> None:
    """Raises _StalledError where the device goes on for too long."""
    if device.type != "cuda":
        return
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(device))
    end = time.monotonic() + _LONGEST_S
    while not done.query():  # type: ignore[no-untyped-call]
        if time.monotonic() > end:
            raise _StalledError
        time.sleep(1e-4)


@cache
def _pool(codec: Codec, dim: int) -> torch.Tensor:
    """Rows of 61 tokens: with so few, documents tie."""
    tokens = np.random.default_rng(0).standard_normal((61, dim), np.float32)
    return torch.from_numpy(codec.encode(tokens / np.linalg.norm(tokens, axis=1, keepdims=True)))


def probe_segment(device: torch.device, codec: Codec, dim: int) -> Segment:
    """5,000 documents of 0 to 70 tokens and two long ones. A third are deleted; 200 begin as those before them."""
    rng = np.random.default_rng(1)
    lengths = np.where(rng.random(5000) < 0.4, rng.integers(0, 20, 5000), rng.integers(1, 71, 5000))
    lengths[[7, 2500]] = 300, 9000
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    drawn = rng.integers(0, 61, offsets[-1])
    for row in range(1000, 1400, 2):  # Some are equal, and of those the lower row comes first.
        span = slice(offsets[row], offsets[row] + min(lengths[row : row + 2]))
        drawn[offsets[row + 1] : offsets[row + 1] + (span.stop - span.start)] = drawn[span]
    columns = codec.split(_pool(codec, dim)[torch.from_numpy(drawn)].to(device))
    return Segment(
        codec,
        dim,
        columns.codes,
        torch.from_numpy(offsets).to(device),
        pack_bitmap(rng.random(5000) < 2 / 3).to(device),
        columns.scales,
    )


def probe_queries(device: torch.device, batch: int, tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, and their masks, of which one masks all tokens."""
    rng = np.random.default_rng(batch)
    queries = rng.standard_normal((batch, tokens, dim), np.float32)
    mask = rng.random((batch, tokens)) < 0.9
    mask[-1] = False
    return torch.from_numpy(queries).to(device), torch.from_numpy(mask).to(device)
