"""What Triton server's front ends refuse before it reaches a model (guard.c), as the server's other processes say.

They refuse by a file, which every process maps or writes to. It begins with

    uint32  1 where the Python backend has given up on a model's process, which the guard says
    uint32  1 from when the guard stands before tritonserver, which the guard says

and goes on with 32 bytes per lane:

    uint32  the shortest timeout, in microseconds, that a request may have
    uint32  the timeout that one without is taken to have
    uint64  how many requests the front ends have refused by these two, which they count
    uint32  1 where every request is refused, as the process that would answer it is stuck
    uint32  the longest timeout of those that the front ends refused, since a model's process has asked
    uint64  when the front ends let the last request through, in nanoseconds of the monotonic clock

The file has zeros until somebody says otherwise. Models' processes say the first two, because a refusal by themselves
costs them 0.3 ms, which at ten times their capacity was most of their time. Front ends know neither a request's texts
nor its work, so they refuse only what the scheduler would refuse whatever it is; the rest the scheduler refuses by
itself. That a process is stuck says the launcher.

The Python backend gives up on a process that has not said for a second that it lives, and fails the request that it has
handed to it. Where the process goes on after that, it answers into memory that is not the request's any more: of ten
that did, three ended tritonserver by a segmentation fault and seven ended themselves.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from tridex.protocol import models
from tridex.protocol.parameters import SearchModeName

_HEAD = struct.Struct("=II")
_LANE = struct.Struct("=IIQIIQ")
_STATE = struct.Struct("=II")
"""What a lane writes, and leaves the rest alone."""
_REFUSED = struct.Struct("=Q")
_REFUSED_AT = _STATE.size
_IS_SHUT = struct.Struct("=I")
_IS_SHUT_AT = _REFUSED_AT + _REFUSED.size
_LONGEST = struct.Struct("=I")
_LONGEST_AT = _IS_SHUT_AT + _IS_SHUT.size
_LET_THROUGH = struct.Struct("=Q")
_LET_THROUGH_AT = _LONGEST_AT + _LONGEST.size
_MOST_US = 2**32 - 1


class GateLane(IntEnum):
    """The places in the file."""

    SEARCH = 0
    BM25 = 1
    ENCODING = 2
    INGEST = 3
    CATALOG = 4


_BM25: SearchModeName = "bm25"

LANES = {
    models.SEARCH.name: GateLane.SEARCH,
    models.MAXSIM.name: GateLane.SEARCH,
    f"{models.SEARCH.name}/{_BM25}": GateLane.BM25,
    models.ENCODE_QUERY.name: GateLane.ENCODING,
    models.ENCODE_DOCUMENT.name: GateLane.ENCODING,
    models.RERANK.name: GateLane.ENCODING,
    models.INGEST.name: GateLane.INGEST,
    models.CATALOG.name: GateLane.CATALOG,
}
"""The lane of requests to a model, or to MODEL/MODE, which comes first."""

LABELS = {
    GateLane.SEARCH: "search",
    GateLane.BM25: "bm25",
    GateLane.ENCODING: "encode",
    GateLane.INGEST: "ingest",
}
"""The labels in metrics of the lanes in which requests wait."""

NEEDING = {
    models.SEARCH.name: {GateLane.SEARCH, GateLane.BM25, GateLane.ENCODING},
    models.INGEST.name: {GateLane.INGEST},
    models.ENCODER.name: {GateLane.INGEST},
    models.CATALOG.name: {GateLane.CATALOG},
}
"""The lanes whose requests are not answered without the process of a model."""

GIVEN_UP = "a process of the server is stuck or has died, and the server starts again"
"""What a request is answered whose process the Python backend has given up on."""


class Refused(NamedTuple):
    """Requests that the front ends have refused."""

    requests: int
    longest_timeout_s: float


class Door:
    """A lane's side of the gate, open to all: that of a tritonserver that our launcher did not start."""

    def tell(self, shortest_timeout_s: float, assumed_timeout_s: float) -> None:
        """Has the front ends refuse requests with shorter timeouts. One without counts as `assumed_timeout_s`."""

    def take_refused(self) -> Refused:
        """Those since this was asked last."""
        return Refused(0, 0.0)


class _FileDoor(Door):
    """Of the file."""

    def __init__(self, mapped: mmap.mmap, lane: GateLane) -> None:
        self._mapped = mapped
        self._at = _at(lane)
        self._refused = 0

    def tell(self, shortest_timeout_s: float, assumed_timeout_s: float) -> None:
        _STATE.pack_into(self._mapped, self._at, _microseconds(shortest_timeout_s), _microseconds(assumed_timeout_s))

    def take_refused(self) -> Refused:
        (refused,) = _REFUSED.unpack_from(self._mapped, self._at + _REFUSED_AT)
        (longest_us,) = _LONGEST.unpack_from(self._mapped, self._at + _LONGEST_AT)
        _LONGEST.pack_into(self._mapped, self._at + _LONGEST_AT, 0)
        since, self._refused = refused - self._refused, refused
        return Refused(since, longest_us / 1e6)


def no_gate(_lane: GateLane) -> Door:
    """In place of `open_gate` where there is no file."""
    return Door()


class Gate:
    """The launcher's side of the file, which it makes. At first every request is let through."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(_at(len(GateLane))))
        file.chmod(0o600)
        self._mapped = _map(file)

    @property
    def has_given_up(self) -> bool:
        """Whether the Python backend has given up on a process."""
        return bool(_HEAD.unpack_from(self._mapped)[0])

    @property
    def is_guarded(self) -> bool:
        """Whether there is a guard: the loader runs a program without a library that it cannot preload."""
        return bool(_HEAD.unpack_from(self._mapped)[1])

    def shed(self) -> dict[GateLane, int]:
        """How many requests the front ends have refused because they would come too late, by lane."""
        return {lane: _LANE.unpack_from(self._mapped, _at(lane))[2] for lane in LABELS}

    def let_through_s(self, lanes: AbstractSet[GateLane]) -> float:
        """When the front ends let the last request of these lanes through, by the monotonic clock."""
        times = (_LET_THROUGH.unpack_from(self._mapped, _at(lane) + _LET_THROUGH_AT)[0] for lane in lanes)
        return max(times, default=0) / 1e9

    def shut(self, lanes: AbstractSet[GateLane]) -> None:
        """Has the front ends refuse every request of these lanes as UNAVAILABLE, and of no others."""
        for lane in GateLane:
            _IS_SHUT.pack_into(self._mapped, _at(lane) + _IS_SHUT_AT, lane in lanes)


def open_gate(file: Path) -> Callable[[GateLane], Door]:
    """The lanes' sides of the file."""
    mapped = _map(file)
    return lambda lane: _FileDoor(mapped, lane)


def _microseconds(seconds: float) -> int:
    return min(int(seconds * 1e6), _MOST_US)


def _at(lane: int) -> int:
    """Where a lane begins."""
    return _HEAD.size + _LANE.size * lane


def _map(file: Path) -> mmap.mmap:
    """The file's bytes, also when something tidies it away, as old files in /tmp may be."""
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), _at(len(GateLane)))
