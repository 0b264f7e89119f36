"""How long requests wait, where Triton server's front ends read it: they refuse what would come too late (guard.c).

A refusal by a model's process costs that process 0.3 ms, which at ten times its capacity was most of its time. The
front ends refuse by a file of sixteen bytes per lane, mapped by both sides:

    uint32  the shortest timeout, in microseconds, that a request may have
    uint32  1 where one without a timeout is refused, too
    uint64  how many requests the front ends have refused, which they count

The file has zeros until a lane says otherwise. Front ends know neither a request's texts nor its work, so they refuse
only what the scheduler would refuse whatever it is; the rest the scheduler refuses by itself.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from tridex.protocol import models
from tridex.protocol.parameters import SearchModeName

_LANE = struct.Struct("=IIQ")
_STATE = struct.Struct("=II")
"""What a lane writes, and leaves the count alone."""
_LONGEST_US = 2**32 - 1


class GateLane(IntEnum):
    """The places in the file."""

    SEARCH = 0
    BM25 = 1
    ENCODING = 2
    INGEST = 3


_BM25: SearchModeName = "bm25"

LANES = {
    models.SEARCH.name: GateLane.SEARCH,
    models.MAXSIM.name: GateLane.SEARCH,
    f"{models.SEARCH.name}/{_BM25}": GateLane.BM25,
    models.ENCODE_QUERY.name: GateLane.ENCODING,
    models.ENCODE_DOCUMENT.name: GateLane.ENCODING,
    models.RERANK.name: GateLane.ENCODING,
    models.INGEST.name: GateLane.INGEST,
}
"""The lane of requests to a model, or to MODEL/MODE, which comes first."""

LABELS = {
    GateLane.SEARCH: "search",
    GateLane.BM25: "bm25",
    GateLane.ENCODING: "encode",
    GateLane.INGEST: "ingest",
}
"""The lanes' labels in metrics."""

Tell = Callable[[float, bool], None]
"""Takes the shortest timeout in seconds, and whether requests without one are refused."""


def no_gate(_lane: GateLane) -> Tell:
    """In place of `open_gate` where there is no file, as our launcher did not start tritonserver."""
    return lambda *_: None


def create_gate(file: Path) -> None:
    """Makes the file, in which every request is let through."""
    file.write_bytes(bytes(_LANE.size * len(GateLane)))
    file.chmod(0o600)


def read_shed(file: Path) -> dict[GateLane, int]:
    """How many requests the front ends have refused, by lane."""
    rows = _LANE.iter_unpack(file.read_bytes())
    return {lane: refused for lane, (_, _, refused) in zip(GateLane, rows, strict=True)}


def open_gate(file: Path) -> Callable[[GateLane], Tell]:
    """What a lane tells the front ends by."""
    with file.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), _LANE.size * len(GateLane))

    def of_lane(lane: GateLane) -> Tell:
        def tell(shortest_timeout_s: float, refuses_without: bool) -> None:
            shortest_us = min(int(shortest_timeout_s * 1e6), _LONGEST_US)
            _STATE.pack_into(mapped, _LANE.size * lane, shortest_us, refuses_without)

        return tell

    return of_lane
