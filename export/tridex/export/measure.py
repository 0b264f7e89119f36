"""A figure and the limit that it is held to, as both are decided on and as both are told."""

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
    """Infinite where there is none."""

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit; NaN is not."""
        return self.value <= self.limit if self.bound == "at most" else self.value >= self.limit

    def __str__(self) -> str:
        """With as many digits as it takes to tell the value from the limit, three at least."""
        if isinf(self.limit):
            return f"{self.name} {self.value:.3g}"
        digits = next((n for n in range(3, 17) if f"{self.value:.{n}g}" != f"{self.limit:.{n}g}"), 17)
        return f"{self.name} {self.value:.{digits}g} ({self.bound} {self.limit:g})"
