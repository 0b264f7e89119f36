"""The memory budget is taken from the device at once. The device here has no memory to take: torch's "meta"."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tridex.common.device import DeviceError
from tridex.index import MemoryBudget
from tridex.serving.collections.device_memory import take

DEVICE = torch.device("meta")


@pytest.mark.parametrize("size", [1 << 20, (1 << 30) + 12_345])
def test_all_of_the_budget_is_taken_in_pieces_of_a_segment(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    budget, taken, empty = MemoryBudget(size), [], torch.empty

    def counted(count: int, **options: Any) -> torch.Tensor:
        taken.append(count)
        return empty(count, **options)

    monkeypatch.setattr(torch, "empty", counted)
    take(budget, DEVICE)
    assert sum(taken) == size and max(taken) <= budget.segment_bytes


def test_a_device_that_another_server_fills_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(
        DeviceError, match=r"no room for the memory budget of 1048576 bytes: CUDA out of.*--memory-budget"
    ):
        take(MemoryBudget(1 << 20), DEVICE)
