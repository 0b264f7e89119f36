"""Takes a GPU's memory for collections when the server starts, not when they grow.

Otherwise two servers on one GPU would both count what is free as theirs, and the first to need it would win.
"""

from __future__ import annotations

import torch

from tridex.common.device import DeviceError
from tridex.index import MemoryBudget


def take(budget: MemoryBudget, device: torch.device) -> None:
    """Has torch's allocator keep the budget's bytes of a GPU for this process. Does nothing on a CPU.

    In pieces of the largest segment's size, which the allocator can give back one by one where it needs another shape.

    Raises:
        DeviceError: The GPU has not so much free memory.
    """
    if device.type == "cpu":
        return
    try:
        taken = [
            torch.empty(min(budget.segment_bytes, budget.size - start), dtype=torch.uint8, device=device)
            for start in range(0, budget.size, budget.segment_bytes)
        ]
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"{device} has no room for the memory budget of {budget.size} bytes: {error}",
            "lower --memory-budget, or end what uses its memory",
        ) from error
    del taken  # to the allocator, which keeps them
