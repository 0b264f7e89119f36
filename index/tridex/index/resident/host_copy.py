"""Copies between host and device that nobody waits for, several tensors at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from numpy.typing import NDArray

Layout = Sequence[tuple[Sequence[int], torch.dtype]]
"""Shapes and dtypes of tensors that lie in one buffer, those of larger elements first: so each begins where its dtype
may."""


def host_buffer(layout: Layout, device: torch.device) -> torch.Tensor:
    """Zeros on the host, uint8 [bytes], from where a GPU copies them in one go while this thread goes on.

    Raises:
        ValueError: A tensor comes behind one of smaller elements.
    """
    sizes = [dtype.itemsize for _, dtype in layout]
    if sizes != sorted(sizes, reverse=True):
        raise ValueError(f"layout has elements of {sizes} bytes; expected the larger ones first")
    return torch.zeros(sum(map(_bytes, layout)), dtype=torch.uint8, pin_memory=device.type == "cuda")


def tensors_in(buffer: torch.Tensor, layout: Layout) -> list[torch.Tensor]:
    """The tensors that a buffer holds, one after the other: views of it."""
    parts = torch.split(buffer, list(map(_bytes, layout)))
    return [part.view(dtype).view(*shape) for part, (shape, dtype) in zip(parts, layout, strict=True)]


def copy_to_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Starts to copy an array to a device, before the work that is given to it next; on the CPU the tensor is the
    array's own memory."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def copy_to_host(*tensors: torch.Tensor) -> Callable[[], list[NDArray[Any]]]:
    """Starts to copy tensors of one device to the host, together and behind the work that makes them.

    Returns:
        Waits for that, not for work that was given to the device later, and returns the arrays. On the CPU they are the
        tensors' own memory.
    """
    if not tensors or tensors[0].device.type != "cuda":
        return lambda: [tensor.numpy() for tensor in tensors]
    buffer, split = joined(tensors)
    copy = buffer.to("cpu", non_blocking=True)  # into pinned memory
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(buffer.device))

    def wait() -> list[NDArray[Any]]:
        copied.synchronize()
        return [tensor.numpy() for tensor in split(copy)]

    return wait


def joined(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Callable[[torch.Tensor], list[torch.Tensor]]]:
    """Tensors in one buffer, uint8 [bytes], and what finds them in it, or in its copy, in their order."""
    order = sorted(range(len(tensors)), key=lambda i: -tensors[i].element_size())
    layout = [(tensors[i].shape, tensors[i].dtype) for i in order]
    buffer = torch.cat([tensors[i].flatten().view(torch.uint8) for i in order])

    def split(copy: torch.Tensor) -> list[torch.Tensor]:
        found = dict(zip(order, tensors_in(copy, layout), strict=True))
        return [found[i] for i in range(len(tensors))]

    return buffer, split


def _bytes(one: tuple[Sequence[int], torch.dtype]) -> int:
    shape, dtype = one
    return prod(shape) * dtype.itemsize
