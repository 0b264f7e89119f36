"""numpy arrays as torch tensors without a copy, also where the array is read-only, as Arrow's are."""

from __future__ import annotations

from typing import Any

import torch
from numpy import asarray
from numpy.typing import NDArray


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
