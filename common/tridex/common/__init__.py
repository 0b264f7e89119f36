"""What every part may use: the base of all errors, and the terminal that commands print to. Light to import."""

from .errors import TridexError

__all__ = ["TridexError"]
