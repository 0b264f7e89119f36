"""What ends a build."""

from __future__ import annotations

from tridex.common import TridexError


class BuildError(TridexError):
    """The source, or what it should be built into, is not what was expected; the message says what to do."""


class InvalidSpecError(BuildError, ValueError):
    """No collection can have this specification with this checkpoint."""
