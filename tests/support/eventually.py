"""Waits for effects of background threads."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(holds: Callable[[], object], within_s: float = 20) -> None:
    """Returns once `holds()` is true; fails the test if that takes longer."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)
