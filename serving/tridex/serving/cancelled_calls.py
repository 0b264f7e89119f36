"""Which calls of clients were cancelled, as the guard in Triton server's front ends says (guard.c).

Triton server tells a Python model that a call was cancelled only where the call was of that model, and nothing where it
was of an ensemble of it (encode, rerank, MaxSim by embeddings). So the guard numbers the calls. A call's number comes
to the models as a parameter of its requests; that of a cancelled call, also of one whose deadline on its connection is
over, is written to a file of 8 bytes, uint64, for each place: that of call n is n modulo the number of places. A number
stays there until another takes its place, so that of two calls, of which one would be forgotten, one may be answered.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARAMETER = "tridex_call"
"""Clients cannot send it."""

_PLACES = 8192
_PLACE = struct.Struct("=Q")

IsCancelled = Callable[[], bool]


def make_file(file: Path) -> None:
    """The launcher's part: no call was cancelled yet."""
    file.write_bytes(bytes(_PLACES * _PLACE.size))
    file.chmod(0o600)


class CancelledCalls:
    """What a model's process knows of them."""

    def __init__(self, file: Path | None) -> None:
        """There is no file where our launcher did not start tritonserver."""
        self._mapped: mmap.mmap | None = None
        if file:
            with file.open("rb") as opened:
                self._mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)

    def take(self, parameters: dict[str, Any]) -> IsCancelled | None:
        """Takes a call's number out of the parameters of its request. What says whether it is cancelled; None where the
        call has no number, because no client made it or there is no guard."""
        number, mapped = parameters.pop(PARAMETER, None), self._mapped
        if mapped is None or not isinstance(number, int):
            return None
        place = number % _PLACES * _PLACE.size
        return lambda: bool(_PLACE.unpack_from(mapped, place)[0] == number)
