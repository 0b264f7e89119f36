"""Compiles the kernels for a GPU that is not here, into the Triton language's cache.

What finds its way there is what a process on such a GPU looks for: launches go through the language's own launch code,
with tensors on the CPU in place of those on the GPU, so a kernel's key is made of the same types, constants and target.
"""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from . import query_tile


def compile_for(capability: int) -> None:
    """From here on this process compiles what it launches on CPU tensors for such a GPU, and runs none of it.

    Args:
        capability: The number of sm_80, sm_90 and so on.
    """
    query_tile.stand_for(capability)
    triton.runtime.driver.set_active(_Compiler(capability))


class _Compiler(DriverBase):  # type: ignore[misc]
    """The driver of a GPU that is not here. It plays the parts of the driver's helpers, too."""

    def __init__(self, capability: int) -> None:
        super().__init__()
        self._capability = capability
        self.utils = self
        self.launcher_cls = _NoLauncher

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        raise NotImplementedError(ty)

    def get_benchmarker(self) -> Any:
        raise NotImplementedError

    def get_active_torch_device(self) -> Any:
        raise NotImplementedError

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        """A number of its own for each capability: what is compiled is remembered by it."""
        return self._capability

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_device_properties(self, _device: int) -> dict[str, int]:
        return {"max_shared_mem": 1 << 30}

    def load_binary(self, *_: object) -> tuple[object, object, int, int, int]:
        """A module, a function, registers, spills, and the most threads of a block."""
        return self, self, 0, 0, 1024


class _NoLauncher:
    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, *_: object) -> None:
        pass
