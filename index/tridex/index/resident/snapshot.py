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
from tridex.index.ranking import Ranking, ranked
from tridex.index.storage.collection import Collection
from tridex.index.storage.filters import to_sql

from .indexed_segment import IndexedSegment, narrow
from .inverted_lists import MIN_DOCUMENTS, find_candidates

_MAX_FILTERED = 32
"""Filters whose documents a snapshot remembers, the last ones used; each takes 9 bits a document."""


class _FilteredViews:
    """The snapshots of the filters that a snapshot was last asked for, by their SQL. Thread-safe; each is made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: OrderedDict[str, Snapshot] = OrderedDict()

    def get(self, condition: str, make: Callable[[], Snapshot]) -> Snapshot:
        with self._lock:
            snapshot = self._views.pop(condition, None) or make()
            self._views[condition] = snapshot
            if len(self._views) > _MAX_FILTERED:
                self._views.popitem(last=False)
            return snapshot


@dataclass(frozen=True)
class Snapshot:
    """One version of a collection, never changed once made: a batch that holds it sees that version to its end."""

    collection: Collection
    """At this snapshot's version."""
    segments: tuple[IndexedSegment, ...]
    """Oldest first."""
    doubles: int = 0
    """Rows of the store that are left out because a newer one has the same id."""
    condition: str | None = None
    """The SQL of the filter that this is the snapshot of, if it is one."""
    _filtered: _FilteredViews = field(default_factory=_FilteredViews, repr=False, compare=False)

    @property
    def version(self) -> int:
        """The store version this is a snapshot of."""
        return self.collection.version

    def count(self) -> int:
        """Live documents."""
        return int(sum(part.live.sum() for part in self.segments))

    def filtered(self, filters: Any) -> Snapshot:
        """The documents of this version that match (filters.py), as a snapshot of their own; the same one every time.

        Raises InvalidFilterError.
        """
        condition = to_sql(filters, self.collection.spec.fields)
        return self._filtered.get(
            condition,
            lambda: Snapshot(
                self.collection, tuple(narrow(self.segments, self.collection, condition)), self.doubles, condition
            ),
        )

    def search(self, queries: torch.Tensor, mask: torch.Tensor, top_k: int) -> list[Ranking]:
        """The best `top_k` documents of each query, exactly.

        queries: [queries, tokens, dim]; mask: bool [queries, tokens], False where a token does not count.
        """
        return _merge([_search(part, queries, mask, top_k) for part in self.segments], len(queries), top_k)

    def search_candidates(
        self, queries: torch.Tensor, mask: torch.Tensor, top_k: int, n_probe: int, n_candidates: int
    ) -> list[Ranking]:
        """The best `top_k` of each query's candidates, by their exact scores; the other arguments are `search`'s.

        In every segment a query token probes `n_probe` centroids, and the `n_candidates` documents, at least `top_k`,
        with the best approximate scores are scored (candidates.py). A segment that holds no more documents, or whose
        lists are not made yet, is searched exactly.
        """
        found = []
        for part in self.segments:
            lists = part.inverted.lists
            part.inverted.wanted |= len(part.ids) >= MIN_DOCUMENTS
            if lists is None or part.live.sum() <= n_candidates:
                found.append(_search(part, queries, mask, top_k))
                continue
            live = torch.from_numpy(part.live).to(queries.device)
            rows = torch.stack(
                [
                    find_candidates(query[kept], lists, live, n_probe, n_candidates)
                    for query, kept in zip(queries, mask, strict=True)
                ]
            )
            scores = kernels.rescore(queries, part.segment, rows, query_mask=mask)
            # Rows ascend and the sort is stable: ties by lower row.
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            rows = rows.gather(1, order)
            found.append((part, scores[:, :top_k].cpu().numpy(), rows[:, :top_k].cpu().numpy()))
        return _merge(found, len(queries), top_k)

    def search_texts(self, query: str, top_k: int) -> Ranking:
        """The best `top_k` documents of a text by BM25 (texts.py)."""
        found = self.collection.search_texts(query, top_k + self.doubles, self.condition)
        return self._shown(found).first(top_k) if self.doubles else found

    def rescore(self, query: torch.Tensor, mask: torch.Tensor, candidates: Sequence[str]) -> Ranking:
        """Ranks these documents for one query; ids that the collection does not hold are left out.

        query: [tokens, dim]; mask: bool [tokens].
        """
        parts = []
        wanted = pa.array(candidates, pa.large_string())
        for part in self.segments:
            rows = np.unique(part.rows_of(wanted))
            rows = rows[rows >= 0]
            if len(rows):
                there = torch.from_numpy(rows)[None].to(part.segment.codes.device)
                scores = kernels.rescore(query[None], part.segment, there, query_mask=mask[None])
                parts.append((part, scores[0].cpu().numpy(), rows))
        return _rank(parts, len(candidates))

    def _shown(self, found: Ranking) -> Ranking:
        """What is left of a ranking of the store's rows where this snapshot leaves some out."""
        ids = pa.array(found.ids, pa.large_string())
        shown = np.zeros(len(ids), np.bool_)
        for part in self.segments:
            rows = part.rows_of(ids)
            there = np.flatnonzero(rows >= 0)
            shown[there] |= part.addresses[rows[there]] == found.addresses[there]
        return Ranking(
            ids=[key for key, seen in zip(found.ids, shown, strict=True) if seen],
            scores=found.scores[shown],
            addresses=found.addresses[shown],
        )


_Found = tuple[IndexedSegment, NDArray[np.float32], NDArray[np.int64]]
"""A segment's best documents: scores and rows, [queries, hits] each, or [hits]."""


def _search(part: IndexedSegment, queries: torch.Tensor, mask: torch.Tensor, top_k: int) -> _Found:
    scores, rows = kernels.search(queries, part.segment, min(top_k, len(part.ids)), query_mask=mask)
    return part, scores.cpu().numpy(), rows.cpu().numpy()


def _merge(found: Sequence[_Found], queries: int, top_k: int) -> list[Ranking]:
    return [_rank([(part, scores[i], rows[i]) for part, scores, rows in found], top_k) for i in range(queries)]


def _rank(found: Sequence[_Found], top_k: int) -> Ranking:
    """Merges the segments' hits for one query."""
    hits: list[tuple[float, str, int]] = []
    for part, scores, rows in found:
        there = scores != -np.inf
        ids = part.ids.take(pa.array(rows[there])).to_pylist()
        hits += zip(scores[there].tolist(), ids, part.addresses[rows[there]].tolist(), strict=True)
    return ranked(hits).first(top_k)
