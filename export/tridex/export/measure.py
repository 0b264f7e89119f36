"""A figure with its limit: whether it holds, and how both are printed."""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf
from typing import Literal


@dataclass(frozen=True)
class Measure:
    name: str
    value: float
    bound: Literal["at most", "at least"]
    limit: float
    """Infinite if there is none."""

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit; NaN is not."""
        return self.value <= self.limit if self.bound == "at most" else self.value >= self.limit

    def __str__(self) -> str:
        """With as many digits as tell the value from the limit, at least three."""
        if isinf(self.limit):
            return f"{self.name} {self.value:.3g}"
        digits = next((n for n in range(3, 17) if f"{self.value:.{n}g}" != f"{self.limit:.{n}g}"), 17)
        return f"{self.name} {self.value:.{digits}g} ({self.bound} {self.limit:g})"
