"""What computes MaxSim on one kind of device: a folder each, imported where it first runs."""

from __future__ import annotations

from typing import Protocol

import torch

from .approximation import Approximation
from .codec import Codec
from .segment import Segment


class Backend(Protocol):
    """The module `backend` of a folder. Arguments are checked before; mask is None where all query tokens count.

    Every function raises ValueError for a codec that `reads` is False of.
    """

    def reads(self, codec: Codec) -> bool:
        """Whether there are loops for the codec's codes."""

    def approximates(self, codec: Codec) -> bool:
        """Whether a search of the codec's codes is quicker with an approximation."""

    def batches_of_each_variant(self, segment: Segment) -> tuple[int, ...]:
        """Batches of short queries that together run every variant of the code: what warm_up has to search with."""

    def choose(self, segment: Segment) -> None:
        """Decides by which code batches over such segments are searched from then on, where there is a choice."""

    def search_workspace_bytes(self, segment: Segment, batch: int, query_tokens: int, top_k: int) -> int:
        """tridex.kernels.search_workspace_bytes."""

    def search(
        self,
        queries: torch.Tensor,
        mask: torch.Tensor | None,
        segment: Segment,
        top_k: int,
        workspace: torch.Tensor | None,
        approximation: Approximation | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """tridex.kernels.search."""

    def rescore(
        self, queries: torch.Tensor, mask: torch.Tensor | None, segment: Segment, rows: torch.Tensor
    ) -> torch.Tensor:
        """tridex.kernels.rescore."""

    def explain(
        self, queries: torch.Tensor, mask: torch.Tensor | None, segment: Segment, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """tridex.kernels.explain."""


def backend_of(device: torch.device) -> Backend | None:
    """The backend of a device's type, None where there is none.

    Each imports its compiler, which takes a second: a process on a CPU needs no triton, one on a GPU no numba.
    """
    if device.type == "cpu":
        from .cpu import backend as cpu

        return cpu
    if device.type == "cuda":
        from .gpu import backend as gpu

        return gpu
    return None


def backend_ahead(capability: int) -> Backend:
    """The GPU's backend, which from here on compiles for such a GPU what it is given on the CPU, and runs nothing."""
    from .gpu import ahead
    from .gpu import backend as gpu

    ahead.compile_for(capability)
    return gpu
