"""Where the time of one search goes: by stage on the server, and the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool

from tridex.serving.backend.stage_times import STAGES, StageTotal, read_stages

_LAST = STAGES[-1]
_SETTLING_S = 0.3
"""The server counts a search within 0.2 s after it answered."""
_PATIENCE_S = 2.0
_PAUSE_S = 0.05
OUTSIDE = "client and network"

ReadStages = Callable[[], dict[str, StageTotal]]


def stages_at(metrics_url: str) -> ReadStages:
    """Reads what searches have spent in each stage since the server started. Raises OSError where none answers."""
    return lambda: read_stages(metrics_url, "search")


async def timed(search: Callable[[], Awaitable[object]], read: ReadStages) -> dict[str, float]:
    """Milliseconds of one search by stage, and of what is outside the server.

    Other searches at the same time count, too: the server adds up the stages of all of them.
    """
    await asyncio.sleep(_SETTLING_S)  # until earlier searches are counted
    before = await run_in_threadpool(read)
    began = time.perf_counter()
    await search()
    total_ms = 1000 * (time.perf_counter() - began)
    deadline = time.monotonic() + _PATIENCE_S
    while True:  # The last stage of a search is counted last.
        now = await run_in_threadpool(read)
        if now[_LAST].requests > before[_LAST].requests or time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE_S)
    spent = {stage: 1000 * now[stage].since(before[stage]).seconds for stage in STAGES}
    return {**spent, OUTSIDE: max(0.0, total_ms - sum(spent.values()))}
