"""numpy arrays as torch tensors without a copy, also read-only ones, as Arrow's are; torch without its threads; and
token embeddings, which may be either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy import asarray
from numpy.typing import NDArray

NUMBERS_AT_A_TIME = 1 << 14
"""Numbers given to a torch operation. From 2^15 on (torch.round and indexing from 2^11 on) torch wakes its own threads,
which then spin for tens of milliseconds on cores that the loops want: 8 queries on int8 codes took 33 ms, not 20."""


TokenEmbeddings: TypeAlias = NDArray[np.float32] | torch.Tensor
"""float32 [tokens, dim], on the host or on the device that made them."""


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


def concatenated(parts: Sequence[TokenEmbeddings]) -> TokenEmbeddings:
    """Token embeddings of one place, one after the other; at least one."""
    if isinstance(parts[0], torch.Tensor):
        return torch.cat([*parts])  # type: ignore[list-item]
    together: NDArray[np.float32] = np.concatenate(parts)
    return together


def on_host(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor as an array; from a GPU by a copy to pinned memory, which is waited for."""
    if tensor.device.type == "cpu":
        return tensor.numpy()
    copy = tensor.to("cpu", non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return copy.numpy()
