"""Searches of one shape over one segment, as a CUDA graph: one costs the host three copies and a replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

from tridex.common.cuda_graphs import record

from .operator import search, search_workspace_bytes
from .segment import Segment

_GRAPH_BYTES = 1 << 21
"""What torch's allocator takes for what a captured search allocates, some hundred KiB."""

_Results = tuple[torch.Tensor, torch.Tensor]


class SearchPlan:
    """The captured search of a segment for so many queries of so many tokens: workspace, inputs and results.

    It holds a reference to the segment, and searches the documents of any bitmap. Making one takes milliseconds and
    waits for the device, so a service makes it off the request path, after `warm_up`; other threads may use the device
    meanwhile, but only one at a time may make a plan. One search at a time: results lie in the plan's memory until the
    next.

    Args:
        segment: On a CUDA device.
        batch: Queries, at least 1.
        query_tokens: Of each query, at least 1.
        top_k: At least 1.

    Raises:
        ValueError: An argument is not as said, or the device does not read the segment's codec.
        RuntimeError: The search cannot be captured, or its graph finds something else.
    """

    def __init__(self, segment: Segment, batch: int, query_tokens: int, top_k: int) -> None:
        device = segment.device
        size = search_workspace_bytes(segment, batch, query_tokens, top_k)
        self._segment = segment
        self._workspace = torch.empty(size, dtype=torch.uint8, device=device)
        self._live = segment.live.clone()
        # What it is tried with.
        self._queries = torch.randn((batch, query_tokens, segment.dim), device=device)
        self._mask = torch.ones((batch, query_tokens), dtype=torch.bool, device=device)
        searched = segment.with_live(self._live)

        def call() -> _Results:
            return search(self._queries, searched, top_k, self._mask, workspace=self._workspace)

        memory = (self._workspace, self._live, self._queries, self._mask)
        self._replay, self._results = _captured(call, memory, device)

    @staticmethod
    def needed_bytes(segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
        """Device memory that a plan of this shape takes."""
        inputs = batch * query_tokens * (4 * segment.dim + 1) + segment.live.nbytes
        return search_workspace_bytes(segment, batch, query_tokens, top_k) + inputs + _GRAPH_BYTES

    def search(
        self, queries: torch.Tensor, query_mask: torch.Tensor, live: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """tridex.kernels.search, on the current stream; waits for nothing if its arguments are on the device.

        Args:
            queries: [up to batch, up to query_tokens, dim], of any device.
            query_mask: bool [queries, tokens].
            live: int32 [ceil(documents / 32)], the documents to search (pack_bitmap); the segment's where None.

        Returns:
            Scores and rows of the queries, as views of the plan's memory.

        Raises:
            ValueError: There are more queries or tokens than the plan has room for, or the shapes do not fit.
        """
        batch, tokens = query_mask.shape
        fits = batch <= len(self._mask) and tokens <= self._mask.shape[1]
        if not fits or queries.shape != (batch, tokens, self._queries.shape[2]):
            raise ValueError(
                f"queries is {list(queries.shape)} and query_mask {list(query_mask.shape)}; "
                f"expected up to {list(self._queries.shape)} and {list(self._mask.shape)}"
            )
        if (batch, tokens) != self._mask.shape:
            self._mask.zero_()
        self._queries[:batch, :tokens].copy_(queries, non_blocking=True)
        self._mask[:batch, :tokens].copy_(query_mask, non_blocking=True)
        self._live.copy_(self._segment.live if live is None else live, non_blocking=True)
        self._replay()
        scores, rows = self._results
        return scores[:batch], rows[:batch]


@cache
def _capturing_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all plans: the allocator keeps memory for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _captured(
    call: Callable[[], _Results], memory: Sequence[torch.Tensor], device: torch.device
) -> tuple[Callable[[], None], _Results]:
    """What repeats a call, and the results, which that overwrites.

    memory: What the call reads and writes.
    """
    if device.type != "cuda":
        raise ValueError(f"segment is on {device}; expected a CUDA device")
    with torch.cuda.device(device):
        torch.cuda.current_stream(device).synchronize()  # What the call reads has been written.
        with torch.cuda.stream(_capturing_stream(device)):
            expected = call()
            torch.cuda.current_stream(device).synchronize()
            graph, results = record(call)
            graph.replay()
            agrees = all(torch.equal(one, other) for one, other in zip(expected, results, strict=True))
    if not agrees:
        raise RuntimeError("the graph of a captured search finds something else than the search does")

    def replay() -> None:
        stream = torch.cuda.current_stream(device)
        for tensor in memory:
            tensor.record_stream(stream)  # Freed, it must not be another's before the stream has come so far.
        graph.replay()

    return replay, results
