"""Where the time of one search goes: by stage on the server, and the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool

from tridex.serving.metrics.stages import SEARCH_STAGES, StageTotal, read_stages

_LAST = SEARCH_STAGES[-1]
SETTLING_S = 1.2
"""Until earlier searches are counted: the server's models write what they have counted once a second."""
_PATIENCE_S = 3.0
_PAUSE_S = 0.05
OUTSIDE = "client and network"

ReadStages = Callable[[], dict[str, StageTotal]]


def stages_at(metrics_url: str) -> ReadStages:
    """Reads what searches have spent in each stage since the server started. Raises OSError where none answers."""
    return lambda: read_stages(metrics_url)


async def timed(search: Callable[[], Awaitable[object]], read: ReadStages) -> dict[str, float]:
    """Milliseconds of one search by stage, and of what is outside the server; it returns when the search is counted.

    Other searches that are not counted yet count, too: the server adds up the stages of all of them.
    """
    before = await run_in_threadpool(read)
    began = time.perf_counter()
    await search()
    total_ms = 1000 * (time.perf_counter() - began)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        now = await run_in_threadpool(read)
        if now[_LAST].requests > before[_LAST].requests or time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE_S)
    since = {stage: total.since(before[stage]) for stage, total in now.items()}
    spent = {stage: 1000 * total.seconds for stage, total in since.items() if total.requests}
    return {**spent, OUTSIDE: max(0.0, total_ms - sum(spent.values()))}
