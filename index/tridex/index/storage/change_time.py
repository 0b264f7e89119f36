"""A folder's time of change, by which readers see that there is news without opening anything."""

from __future__ import annotations

import os
import time
from pathlib import Path


def touch(folder: Path) -> None:
    """Says that something in this folder changed, to those who look at its time of change alone.

    To the nanosecond: the system itself sets that time in steps of milliseconds, in which a second change would hide.
    """
    now = time.time_ns()
    try:
        os.utime(folder, ns=(now, now))
    except OSError:
        return  # Not the owner, perhaps: those who follow look at every collection now and then.
