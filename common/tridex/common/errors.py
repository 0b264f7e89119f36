"""The base of every error that Tridex raises on purpose."""

from __future__ import annotations


class TridexError(Exception):
    """Its message is one sentence for the caller: the argument, its value, and what was expected or what helps."""
