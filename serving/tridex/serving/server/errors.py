"""The error of starting and running a server."""

from __future__ import annotations

from tridex.common import TridexError


class ServerError(TridexError):
    """The server could not start, or is not running; the message says why and what to do."""
