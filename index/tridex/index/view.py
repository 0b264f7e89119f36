"""What a search reads: one version of a collection in device memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tridex import kernels

from .collection import Collection
from .filters import to_sql
from .segments import IndexedSegment, narrow

_MAX_FILTERED = 32
"""Filters whose documents a view remembers, the last ones used; each takes 9 bits a document."""


@dataclass(frozen=True)
class Ranking:
    """The best documents of one query, score descending, ties by id."""

    ids: list[str]
    scores: NDArray[np.float32]
    addresses: NDArray[np.uint64]
    """Where each document lies in the store, for reading its text."""

    def first(self, count: int) -> Ranking:
        """The best `count` of these."""
        return Ranking(self.ids[:count], self.scores[:count], self.addresses[:count])


class _FilteredViews:
    """The views of the filters that a view was last asked for, by their SQL. Thread-safe; each is made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: OrderedDict[str, View] = OrderedDict()

    def get(self, condition: str, make: Callable[[], View]) -> View:
        with self._lock:
            view = self._views.pop(condition, None) or make()
            self._views[condition] = view
            if len(self._views) > _MAX_FILTERED:
                self._views.popitem(last=False)
            return view


@dataclass(frozen=True)
class View:
    """One version of a collection, never changed once made: a batch that holds it sees that version to its end."""

    collection: Collection
    """At this view's version."""
    segments: tuple[IndexedSegment, ...]
    """Oldest first."""
    _filtered: _FilteredViews = field(default_factory=_FilteredViews, repr=False, compare=False)

    @property
    def version(self) -> int:
        """The store version this is a view of."""
        return self.collection.version

    def count(self) -> int:
        """Live documents."""
        return int(sum(part.live.sum() for part in self.segments))

    def filtered(self, filters: Any) -> View:
        """The documents of this version that match (filters.py), as a view of their own; the same one when asked again.

        Raises InvalidFilterError.
        """
        condition = to_sql(filters, self.collection.spec.fields)
        return self._filtered.get(
            condition, lambda: View(self.collection, tuple(narrow(self.segments, self.collection, condition)))
        )

    def search(self, queries: torch.Tensor, mask: torch.Tensor, top_k: int) -> list[Ranking]:
        """The best `top_k` documents of each query, exactly.

        queries: [queries, tokens, dim]; mask: bool [queries, tokens], False where a token does not count.
        """
        parts = []
        for part in self.segments:
            scores, rows = kernels.search(queries, part.segment, min(top_k, len(part.ids)), query_mask=mask)
            parts.append((part, scores.cpu().numpy(), rows.cpu().numpy()))
        return [_rank([(part, scores[i], rows[i]) for part, scores, rows in parts], top_k) for i in range(len(queries))]

    def rescore(self, query: torch.Tensor, mask: torch.Tensor, candidates: Sequence[str]) -> Ranking:
        """Ranks these documents for one query; ids that the collection does not hold are left out.

        query: [tokens, dim]; mask: bool [tokens].
        """
        parts = []
        for part in self.segments:
            rows = sorted({row for row in map(part.row_of, candidates) if row is not None})
            if rows:
                there = torch.tensor([rows], dtype=torch.int64, device=part.segment.codes.device)
                scores = kernels.rescore(query[None], part.segment, there, query_mask=mask[None])
                parts.append((part, scores[0].cpu().numpy(), np.asarray(rows)))
        return _rank(parts, len(candidates))


def _rank(parts: Sequence[tuple[IndexedSegment, NDArray[np.float32], NDArray[np.int64]]], top_k: int) -> Ranking:
    """Merges the segments' hits for one query."""
    hits: list[tuple[float, str, np.uint64]] = []
    for part, scores, rows in parts:
        found = rows[scores != -np.inf]
        ids = part.ids.take(pa.array(found)).to_pylist()
        hits += zip((-scores[: len(found)]).tolist(), ids, part.addresses[found], strict=True)
    hits.sort()
    del hits[top_k:]
    return Ranking(
        ids=[key for _, key, _ in hits],
        scores=np.array([-negated for negated, _, _ in hits], np.float32),
        addresses=np.array([address for _, _, address in hits], np.uint64),
    )
