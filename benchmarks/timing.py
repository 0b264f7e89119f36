"""Times callables that take turns within one run, so that a machine that slows down slows down all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

ROUNDS = (3, 40)
"""Fewest and most turns of each; slow ones get few."""

_PAUSE_S = 0.01
"""Before each call on a CPU, uncounted: lets threads that the call before left spinning go to sleep. The calling thread
spins meanwhile, so that its own core stays awake."""

_FLUSH_BYTES = 1 << 28
"""Written before each call on a GPU, uncounted, so that none finds its documents in the L2 (50 MB on an H100)."""


def side_by_side(calls: Sequence[Callable[[], object]], device: torch.device, seconds: float) -> list[list[float]]:
    """Milliseconds of each round of each call, in about so many seconds; all are called once before.

    On a GPU it is the device's time between two CUDA events around the call; the calls of a round are queued without a
    wait in between.
    """
    seconds_per_round = sum(times[0] for times in take_turns(calls, device, 1)) / 1000
    return take_turns(calls, device, min(max(int(seconds / max(seconds_per_round, 1e-6)), ROUNDS[0]), ROUNDS[1]))


def take_turns(calls: Sequence[Callable[[], object]], device: torch.device, rounds: int) -> list[list[float]]:
    """Milliseconds of each round of each call."""
    turns = [_round_on_gpu(calls, device) if device.type == "cuda" else _round_on_cpu(calls) for _ in range(rounds)]
    return [list(times) for times in zip(*turns, strict=True)]


def host_us(call: Callable[[], object], device: torch.device) -> float:
    """Microseconds until a call on a GPU returns, which does not wait for the device: the median of 5.

    So few that the device's queue has room for what they launch.
    """
    torch.cuda.synchronize(device)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        times.append(1e6 * (time.perf_counter() - started))
    torch.cuda.synchronize(device)
    return float(np.median(times))


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """p20, p50 and p80."""
    return {f"p{q}": float(np.percentile(times, q)) for q in (20, 50, 80)}


def _round_on_cpu(calls: Sequence[Callable[[], object]]) -> list[float]:
    times = []
    for call in calls:
        awake = time.perf_counter() + _PAUSE_S
        while (started := time.perf_counter()) < awake:
            pass
        call()
        times.append(1000 * (time.perf_counter() - started))
    return times


def _round_on_gpu(calls: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    scratch = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device=device)
    events = [[_event(), _event()] for _ in calls]
    for call, (begin, end) in zip(calls, events, strict=True):
        scratch.zero_()
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize(device)
    return [begin.elapsed_time(end) for begin, end in events]


def _event() -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    return event
