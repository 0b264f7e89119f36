"""What makes a segment's searches faster and gives way to documents: inverted lists, search plans, an approximation.

Follower.make makes them in the background, in what the memory budget leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from tridex.kernels import Segment

from .budget import Extra
from .indexed_segment import IndexedSegment


class Slot(Protocol):
    """Where a segment keeps its extras of one kind; shared by all snapshots of that segment."""

    retry_at: float
    """By the monotonic clock: not made before, as there was no memory for them."""

    @property
    def has_any(self) -> bool:
        """Whether there are some."""
        ...

    def is_wanted(self, segment: Segment) -> bool:
        """Whether searches miss some."""
        ...

    def needed_bytes(self, segment: Segment) -> int:
        """Device memory of those that there are and those that are wanted."""
        ...

    def make(self, segment: Segment) -> None:
        """Makes those that are wanted."""
        ...

    def drop(self) -> None:
        """Lets them go."""
        ...


SLOTS: Mapping[Extra, Callable[[IndexedSegment], Slot]] = {
    Extra.INVERTED_LISTS: lambda segment: segment.inverted,
    Extra.SEARCH_PLANS: lambda segment: segment.plans,
    Extra.APPROXIMATIONS: lambda segment: segment.approximated,
}
