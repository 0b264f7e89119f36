"""numpy arrays as torch tensors without a copy, also read-only ones, as Arrow's are; and torch without its threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy import asarray
from numpy.typing import NDArray

NUMBERS_AT_A_TIME = 1 << 14
"""Numbers given to a torch operation. From 2^15 on (torch.round and indexing from 2^11 on) torch wakes its own threads,
which then spin for tens of milliseconds on cores that the loops want: 8 queries on int8 codes took 33 ms, not 20."""


class _Writable:
    """An array's memory that says it may be written: torch warns of any other, and nothing here writes."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.owner = array
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = array.__array_interface__ | {"data": (address, False)}


def tensor_over(array: NDArray[Any]) -> torch.Tensor:
    """A tensor over the array's own memory, which it keeps alive. Only to be read, where the array is read-only."""
    tensor = torch.from_numpy(array if array.flags.writeable else asarray(_Writable(array)))
    return tensor if array.size else tensor.new_empty(array.shape)  # from_numpy's strides of nothing are all 0.


def by_parts(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
    """function(*tensors), which goes row by row: on a CPU a few rows at a time, so that torch wakes no threads."""
    numbers = max(tensor.numel() for tensor in tensors)
    if tensors[0].device.type != "cpu" or numbers <= NUMBERS_AT_A_TIME:
        return function(*tensors)
    rows = max(1, NUMBERS_AT_A_TIME * len(tensors[0]) // numbers)
    return torch.cat(
        [function(*parts) for parts in zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)]
    )
