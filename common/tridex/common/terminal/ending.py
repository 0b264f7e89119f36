"""Signals that end a command which runs until it is told to end."""

from __future__ import annotations

import signal
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def interrupt_on_ending() -> None:
    """Makes the first signal that asks this process to end a KeyboardInterrupt; further ones are ignored, as stopping
    has a limit of time and must not be interrupted."""
    for ending in _ENDING:
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(ending, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt
