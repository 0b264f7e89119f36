"""What ends a build."""


class BuildError(Exception):
    """The source, or what it should be built into, is not what was expected; the message says what to do."""
