"""In place of CUDA graphs, where there is no GPU: the call is made again, its results written where the graph's are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Results = tuple[torch.Tensor, torch.Tensor]


def called_again(
    call: Callable[[], Results], _memory: Sequence[torch.Tensor], _device: torch.device
) -> tuple[Callable[[], None], Results]:
    """As kernels.search_plan captures a call."""
    results = call()

    def replay() -> None:
        for one, new in zip(results, call(), strict=True):
            one.copy_(new)

    return replay, results
