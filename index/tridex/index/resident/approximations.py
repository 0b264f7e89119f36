"""Which segments get an approximation (tridex.kernels), and where it is kept.

It is made in the background (Follower.make), where the memory budget leaves room. Searches have the same results with
it and without.
"""

from __future__ import annotations

from tridex.kernels import Approximation, Segment, approximate, approximates, approximation_bytes

_MIN_NUMBERS = 1 << 22
"""Of a segment that is worth one, 32,768 tokens at 128 dimensions: a search of a smaller one takes a millisecond."""


class ApproximationSlot:
    """Where a segment keeps its approximation once it is made; a Slot (extras.py)."""

    def __init__(self) -> None:
        self.approximation: Approximation | None = None
        self.retry_at = 0.0

    @property
    def has_any(self) -> bool:
        """Whether it is made."""
        return self.approximation is not None

    def is_wanted(self, segment: Segment) -> bool:
        """Whether it is not made, and searches of the segment would gain by it."""
        return self.approximation is None and segment.tokens * segment.dim >= _MIN_NUMBERS and approximates(segment)

    def needed_bytes(self, segment: Segment) -> int:
        """What it takes."""
        return approximation_bytes(segment)

    def make(self, segment: Segment) -> None:
        """Makes it: some seconds for a million tokens."""
        self.approximation = approximate(segment)

    def drop(self) -> None:
        """Lets it go; searches under way keep it."""
        self.approximation = None
