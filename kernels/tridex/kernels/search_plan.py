"""Searches of one shape over one segment, as a CUDA graph: a replay costs the host microseconds."""

from __future__ import annotations

import torch

from .operator import search, search_workspace_bytes
from .segment import Segment


class SearchPlan:
    """The captured search of a segment for so many queries of so many tokens: workspace, inputs and results.

    It holds a reference to the segment, and follows a bitmap that is changed in place. Making one takes milliseconds
    and waits for the device, so a service makes it off the request path, after `warm_up`. One search at a time: results
    lie in the plan's memory until the next.

    Args:
        segment: On a CUDA device.
        batch: Queries, at least 1.
        query_tokens: Of each query, at least 1.
        top_k: At least 1.

    Raises:
        ValueError: An argument is not as said, or the device does not read the segment's codec.
    """

    def __init__(self, segment: Segment, batch: int, query_tokens: int, top_k: int) -> None:
        if segment.device.type != "cuda":
            raise ValueError(f"segment is on {segment.device}; expected a CUDA device")
        size = search_workspace_bytes(segment, batch, query_tokens, top_k)
        workspace = torch.empty(size, dtype=torch.uint8, device=segment.device)
        self._queries = torch.zeros((batch, query_tokens, segment.dim), device=segment.device)
        self._mask = torch.zeros((batch, query_tokens), dtype=torch.bool, device=segment.device)
        self._graph = torch.cuda.CUDAGraph()
        self._held = segment, workspace  # The graph has their addresses alone.
        with torch.cuda.device(segment.device):
            search(self._queries, segment, top_k, self._mask, workspace=workspace)
            with torch.cuda.graph(self._graph):
                self._results = search(self._queries, segment, top_k, self._mask, workspace=workspace)

    def search(self, queries: torch.Tensor, query_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """tridex.kernels.search, on the current stream; waits for nothing if queries and mask are on the device.

        Args:
            queries: [up to batch, up to query_tokens, dim], of any device.
            query_mask: bool [queries, tokens].

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
        self._graph.replay()
        scores, rows = self._results
        return scores[:batch], rows[:batch]
