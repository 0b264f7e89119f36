"""Checkpoint to served model: ONNX and TensorRT export behind a parity gate, and the rendering of model_repository/.

`export_checkpoint` exports any ColBERT checkpoint, `export_default` those that need no download.
"""

from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .default_checkpoint import BUILT_IN, backbone_dir, colbert_from_encoder, write_default_checkpoint
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
    "backbone_dir",
    "colbert_from_encoder",
    "export_checkpoint",
    "export_default",
    "find_source",
    "write_default_checkpoint",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "default_checkpoint": ["BUILT_IN", "backbone_dir", "colbert_from_encoder", "write_default_checkpoint"],
            "errors": ["CheckpointError", "ExportError", "ParityError", "TensorRTError", "UnknownFormatError"],
            "exporter": ["export_checkpoint", "export_default"],
            "source": ["find_source"],
        },
    )
