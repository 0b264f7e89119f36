"""A service's metrics, where tests can read them."""

from __future__ import annotations

from collections.abc import Mapping

from tridex.serving.backend.service import Counter


class Counts:
    """Metrics, kept in a dictionary: amounts by name and labels."""

    def __init__(self) -> None:
        self.amounts: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def counter(self, name: str, _description: str) -> Counter:
        def add(labels: Mapping[str, str], amount: float) -> None:
            assert amount >= 0, f"{name} is given {amount}"
            key = (name, frozenset(labels.items()))
            self.amounts[key] = self.amounts.get(key, 0) + amount

        return add
