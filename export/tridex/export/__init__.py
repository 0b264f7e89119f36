"""Checkpoint to served model: ONNX and TensorRT export behind a parity gate, and the rendering of model_repository/.

`export_checkpoint` exports any ColBERT checkpoint, `export_default` those that need no download.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .default_checkpoint import BUILT_IN, colbert_from_encoder, write_default_checkpoint
    from .errors import CheckpointError, ExportError, ParityError, TensorRTError, UnknownFormatError
    from .exporter import export_checkpoint, export_default
    from .source import find_source

__all__ = [
    "BUILT_IN",
    "CheckpointError",
    "ExportError",
    "ParityError",
    "TensorRTError",
    "UnknownFormatError",
    "colbert_from_encoder",
    "export_checkpoint",
    "export_default",
    "find_source",
    "write_default_checkpoint",
]

_MODULES = {
    "BUILT_IN": "default_checkpoint",
    "CheckpointError": "errors",
    "ExportError": "errors",
    "ParityError": "errors",
    "TensorRTError": "errors",
    "UnknownFormatError": "errors",
    "colbert_from_encoder": "default_checkpoint",
    "export_checkpoint": "exporter",
    "export_default": "exporter",
    "find_source": "source",
    "write_default_checkpoint": "default_checkpoint",
}


def __getattr__(name: str) -> Any:
    # The command line imports this package for every command; torch and transformers take seconds.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
