"""Compiles what searches need for the codecs that collections use, before the first search of one."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch

from tridex import kernels
from tridex.index import CollectionSpec


class CompiledCodecs:
    """Remembers for which codecs and dims the kernels are compiled on a device. Thread-safe."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._supported = kernels.supported_codecs(device)
        self._compiled: set[tuple[kernels.Codec, int]] = set()
        self._lock = threading.Lock()

    def compile(self, specs: Iterable[CollectionSpec]) -> None:
        """Compiles what collections of these specifications need and is not compiled yet, all at the same time."""
        if self._device.type == "cpu":
            return  # the search engine has it all compiled when it starts
        with self._lock:
            missing = {(spec.codec, spec.dim) for spec in specs if spec.codec in self._supported} - self._compiled
            for dim in {dim for _, dim in missing}:
                kernels.warm_up(self._device, dim, [codec for codec, of in missing if of == dim])
            self._compiled |= missing
