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
        self._explained: set[tuple[kernels.Codec, int]] = set()
        """Of those, for which explanations are compiled as well."""
        self._lock = threading.Lock()

    def compile(self, specs: Iterable[CollectionSpec]) -> None:
        """Compiles what searches of collections of these specifications need and is not compiled yet, all at the same
        time."""
        if self._device.type == "cpu":
            return  # the search engine has it all compiled when it starts
        with self._lock:
            missing = {(spec.codec, spec.dim) for spec in specs if spec.codec in self._supported} - self._compiled
            self._warm_up(missing, ("search", "rescore"))
            self._compiled |= missing

    def compile_explanations(self) -> None:
        """Compiles what explains the hits of those searches. Few are explained, so no start waits for it; one that
        comes before compiles it."""
        with self._lock:
            missing = self._compiled - self._explained
            self._warm_up(missing, ("explain",))
            self._explained |= missing

    def _warm_up(self, missing: set[tuple[kernels.Codec, int]], operators: tuple[kernels.Operator, ...]) -> None:
        for dim in {dim for _, dim in missing}:
            kernels.warm_up(self._device, dim, [codec for codec, of in missing if of == dim], operators)
