"""Which segments get an approximation (tridex.kernels), and where it is kept.

It is made in the background (Follower.make_approximations), where the memory budget leaves room. Searches have the same
results with it and without.
"""

from __future__ import annotations

from tridex.kernels import Approximation, Segment, approximates

_MIN_NUMBERS = 1 << 22
"""Of a segment that is worth one, 32,768 tokens at 128 dimensions: a search of a smaller one takes a millisecond."""


class ApproximationSlot:
    """Where a segment keeps its approximation once it is made; shared by all snapshots of that segment."""

    def __init__(self) -> None:
        self.approximation: Approximation | None = None
        self.retry_at = 0.0
        """By the monotonic clock, where there was no memory for it."""


def is_worth_approximating(segment: Segment) -> bool:
    """Whether its searches gain by it."""
    return segment.tokens * segment.dim >= _MIN_NUMBERS and approximates(segment)
