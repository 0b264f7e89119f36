"""The errors of an export.

ExportError
  +-- CheckpointError
  |     +-- UnknownFormatError
  +-- ParityError
  +-- TensorRTError
"""

from tridex.common import TridexError


class ExportError(TridexError):
    """The export did not happen; what was served before is untouched."""


class CheckpointError(ExportError):
    """The checkpoint cannot be found, read or served."""


def refusal(what: str, value: object, expected: str) -> CheckpointError:
    """A CheckpointError in the common form: what it is about, its value, and what was expected."""
    return CheckpointError(f"{what}: {value}, expected {expected}")


class UnknownFormatError(CheckpointError):
    """The files are not those of a ColBERT checkpoint."""


class ParityError(ExportError):
    """The exported encoder does not give the checkpoint's results."""


class TensorRTError(ExportError):
    """The TensorRT engine cannot be built."""
