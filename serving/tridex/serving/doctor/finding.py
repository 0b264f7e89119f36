"""What one check has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One fact about the machine.

    Attributes:
        what: What was looked at, in a word or two.
        state: "ok", "missing", or "fault" for what is there and of no use.
        detail: What was found.
        remedy: The command that mends it, or what to do; empty where it is ok.
        needed: Whether `tridex serve` needs it on the device in question.
    """

    what: str
    state: Literal["ok", "missing", "fault"]
    detail: str
    remedy: str = ""
    needed: bool = True
