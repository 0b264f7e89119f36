"""What an export can fail with.

ExportError
  +-- CheckpointError
  |     +-- UnknownFormatError
  +-- ParityError
  +-- TensorRTError
"""


class ExportError(RuntimeError):
    """The export did not happen; what was served before is untouched."""


class CheckpointError(ExportError):
    """The checkpoint cannot be found, read or served."""


class UnknownFormatError(CheckpointError):
    """The files are those of no ColBERT checkpoint."""


class ParityError(ExportError):
    """The exported encoder does not give the checkpoint's results."""


class TensorRTError(ExportError):
    """The TensorRT engine cannot be built."""
