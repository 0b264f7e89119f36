"""Captured searches of a segment on a GPU: launching one of these costs the host less than launching its kernels.

A search is captured for a few shapes, once searches have come in them often enough to be worth it, and never while one
waits (Follower.make). A search that fits none, or whose plan is not made, goes the ordinary way, and both find
the same to the last bit. What is deleted or filtered out is another bitmap, which every replay is given; a merge makes
another segment, whose plans are made anew.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import NamedTuple

import torch

from tridex.kernels import SearchPlan, Segment

_BATCHES = (1, 2, 4, 8)
"""More queries keep a GPU busy for longer than it takes to launch the next search."""

_TOKENS = (32, 64)
_TOP_K = (16, 128)

_WORTHWHILE = 64
"""Searches of a shape that are worth a plan: making it costs the host some milliseconds, and a replay saves it some
tenths of one."""

_log = logging.getLogger(__name__)


class Replayed(NamedTuple):
    """What a replay has found, [queries, top_k] on the device."""

    scores: torch.Tensor
    rows: torch.Tensor
    plan: SearchPlan
    """To be held until the replay has ended: until then the plan's memory must not be another's."""


class Shape(NamedTuple):
    """What a plan has room for."""

    batch: int
    query_tokens: int
    top_k: int


class PlansSlot:
    """Where a segment keeps its captured searches; a Slot (extras.py). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plans: dict[Shape, SearchPlan] = {}
        self._searches: Counter[Shape] = Counter()
        """That had no plan."""
        self._stream: int | None = None
        """Where the plans are replayed, one after the other: the first to ask for one."""
        self._failed = False
        """Whether a search could not be captured; then no other is tried."""
        self.retry_at = 0.0

    def search(self, segment: Segment, queries: torch.Tensor, mask: torch.Tensor, top_k: int) -> Replayed | None:
        """The search of this slot's segment as a replay; None where there is no plan for it.

        Args:
            segment: With any bitmap.
            queries: As `tridex.kernels.search` takes them.
            mask: Likewise.
            top_k: Likewise.
        """
        stream, shape = _stream_of(segment.device), _shape_of(mask, top_k)
        if stream is None or shape is None:
            return None
        with self._lock:
            if self._stream is None:
                self._stream = stream
            if stream != self._stream:
                return None
            plan = self._plans.get(shape)
            if plan is None:
                self._searches[shape] += 1
                return None
            # Locked until the results are copied: the next replay writes over them.
            scores, rows = (result[:, :top_k].clone() for result in plan.search(queries, mask, segment.live))
            return Replayed(scores, rows, plan)

    def wanted(self) -> list[Shape]:
        """Shapes that are worth a plan and have none."""
        with self._lock:
            return [shape for shape, count in self._searches.items() if count >= _WORTHWHILE and not self._failed]

    def is_wanted(self, _segment: Segment) -> bool:
        """Whether a shape is."""
        return bool(self.wanted())

    @property
    def has_any(self) -> bool:
        """Whether one is made."""
        return bool(self._plans)

    def needed_bytes(self, segment: Segment) -> int:
        """Device memory of the plans that there are and of those that are wanted."""
        wanted = self.wanted()
        with self._lock:
            return sum(SearchPlan.needed_bytes(segment, *shape) for shape in {*self._plans, *wanted})

    def make(self, segment: Segment) -> None:
        """Makes the plans that are wanted: milliseconds each. Where one cannot be made, searches go the ordinary way.

        Raises RuntimeError where the device has failed.
        """
        for shape in self.wanted():
            try:
                plan = SearchPlan(segment, *shape)
            except RuntimeError as error:
                torch.cuda.synchronize(segment.device)  # raises where the device itself has failed
                _log.warning("searches of a segment cannot be captured, so their kernels are launched (%s)", error)
                self._failed = True
                return
            with self._lock:
                self._plans[shape] = plan
                self._searches.pop(shape, None)  # gone where another thread has dropped all meanwhile

    def drop(self) -> None:
        """Lets the plans go; those that work just now live until their results are there."""
        with self._lock:
            self._plans.clear()
            self._searches.clear()


def _stream_of(device: torch.device) -> int | None:
    """What this thread launches on; None on a CPU."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else None


def _shape_of(mask: torch.Tensor, top_k: int) -> Shape | None:
    """The smallest that holds a search."""
    sizes = zip((*mask.shape, top_k), (_BATCHES, _TOKENS, _TOP_K), strict=True)
    rooms = [next((room for room in rooms if size <= room), 0) for size, rooms in sizes]
    return Shape(*rooms) if all(rooms) else None
