"""What every part may use: the base of all errors, devices and what is installed, metadata fields, CUDA graphs, the
terminal that commands print to. Light to import, but for cuda_graphs."""

from .errors import TridexError

__all__ = ["TridexError"]
