"""CUDA graphs: what a thread gives to a GPU is recorded once, and given to it again by one call of microseconds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeVar

import torch

_Pool = tuple[int, int]

_R = TypeVar("_R")


def record(work: Callable[[], _R]) -> tuple[torch.cuda.CUDAGraph, _R]:
    """Records what `work` gives to the current stream, on which nothing is computed meanwhile.

    Other threads may use the device, but not this stream. What the graph reads and writes has to stay where it is, and
    what it computes is to be compared before it is used: an operation that copies from the host's memory reads that at
    each replay again, whatever is there by then.

    Args:
        work: Allocates memory by torch alone, and waits for nothing; has been called before, so that all is compiled.

    Returns:
        The graph, which any thread may replay on any stream, and what `work` returned, which each replay overwrites.

    Raises:
        RuntimeError: The work cannot be recorded. The stream can be used as before.
    """
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    with ExitStack() as on_failure:
        on_failure.callback(_give_up, pool)
        # Not torch.cuda.graph: it gives back all memory that the allocator keeps for others, waits for their work, and
        # lets their calls fail the capture.
        graph.capture_begin(pool, capture_error_mode="thread_local")
        try:
            result = work()
        except Exception as error:
            with suppress(RuntimeError):  # says that the capture has failed, and ends it
                graph.capture_end()
            raise RuntimeError(f"cannot be recorded: {error}") from error
        graph.capture_end()
        on_failure.pop_all()
    return graph, result


def _give_up(pool: _Pool) -> None:
    """Tells torch's allocator, which is not told by a capture that fails: until then it gives back no memory."""
    device = torch.cuda.current_device()
    for forget in (torch._C._cuda_endAllocateToPool, torch._C._cuda_releasePool):
        with suppress(RuntimeError):  # as it has been told
            forget(device, pool)
