"""Results from the device to the host: all at once, and waited for once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray


def copy_to_host(*tensors: torch.Tensor) -> Callable[[], list[NDArray[Any]]]:
    """Starts to copy tensors of one device to the host, behind the work that makes them.

    Returns:
        Waits for that, not for work that was given to the device later, and returns the arrays. On the CPU they are the
        tensors' own memory.
    """
    if tensors[0].device.type != "cuda":
        return lambda: [tensor.numpy() for tensor in tensors]
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # into pinned memory
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(tensors[0].device))

    def wait() -> list[NDArray[Any]]:
        copied.synchronize()
        return [copy.numpy() for copy in copies]

    return wait
