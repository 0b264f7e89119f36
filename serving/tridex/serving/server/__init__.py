"""Triton server as a process: finding it, starting, probing, supervising and stopping it."""

from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .errors import ServerError
    from .server import TritonServer

__all__ = ["ServerError", "TritonServer"]

# The server imports ONNX Runtime with the encoding; `tridex doctor` looks at its modules where that is missing.
if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(__name__, {"errors": ["ServerError"], "server": ["TritonServer"]})
