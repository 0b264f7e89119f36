"""What a search reads: one version of a collection in device memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.index.ranking import Ranking, ranked
from tridex.index.storage.collection import Collection
from tridex.index.storage.filters import to_sql
from tridex.kernels import SearchPlan

from .host_copy import copy_to_device, copy_to_host
from .indexed_segment import IndexedSegment, narrow
from .inverted_lists import (
    MIN_LISTED_DOCUMENTS,
    InvertedLists,
    Probes,
    count_entries,
    find_candidates,
    probe,
)
from .token_matches import TokenMatches, token_matches

_MAX_FILTERED = 32
"""Filters whose documents a snapshot remembers, the last ones used; each takes 9 bits a document."""


@dataclass(frozen=True)
class Found:
    """A search that was given to a device. Whoever gave it several copies what all of them leave there at once."""

    on_device: Sequence[torch.Tensor]
    """What it leaves there."""
    rankings: Callable[[Sequence[NDArray[Any]]], list[Ranking]]
    """Makes a ranking per query of that, once it is on the host."""

    def wait(self) -> list[Ranking]:
        """Waits for this search alone."""
        (rankings,) = wait_for_all([self])
        return rankings


def wait_for_all(found: Sequence[Found]) -> list[list[Ranking]]:
    """Each search's rankings, by one copy for all of them."""
    if not found:
        return []
    return rankings_of(found, copy_to_host(*[tensor for one in found for tensor in one.on_device])())


def rankings_of(found: Sequence[Found], copied: Iterable[NDArray[Any]]) -> list[list[Ranking]]:
    """Each search's rankings, of what all of them have left on the device, one after the other."""
    arrays = iter(copied)
    return [one.rankings(list(islice(arrays, len(one.on_device)))) for one in found]


class _FilteredSnapshots:
    """The snapshots of the filters that a snapshot was last asked for, by their SQL. Thread-safe; each is made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()

    def get(self, condition: str, make: Callable[[], Snapshot]) -> Snapshot:
        with self._lock:
            snapshot = self._snapshots.pop(condition, None) or make()
            self._snapshots[condition] = snapshot
            if len(self._snapshots) > _MAX_FILTERED:
                self._snapshots.popitem(last=False)
            return snapshot


@dataclass(frozen=True)
class Snapshot:
    """One version of a collection, never changed once made: a batch that holds it sees that version to its end.

    Attributes:
        collection: At this snapshot's version.
        segments: Oldest first.
        duplicates: Rows of the store that are left out because a newer one has the same id.
        condition: SQL of the filter that all documents match; None for the whole version.
    """

    collection: Collection
    segments: tuple[IndexedSegment, ...]
    duplicates: int = 0
    condition: str | None = None
    _filtered: _FilteredSnapshots = field(default_factory=_FilteredSnapshots, repr=False, compare=False)

    @property
    def version(self) -> int:
        """The store version this is a snapshot of."""
        return self.collection.version

    def count(self) -> int:
        """Live documents."""
        return int(sum(segment.live.sum() for segment in self.segments))

    def rows(self) -> int:
        """Rows in device memory, deleted ones included."""
        return sum(len(segment.ids) for segment in self.segments)

    def tokens(self) -> int:
        """Tokens in device memory, those of deleted rows included."""
        return sum(segment.packed.tokens for segment in self.segments)

    def filtered(self, filters: Any) -> Snapshot:
        """The documents of this version that match, as a snapshot of their own; the same one every time.

        Args:
            filters: A condition on declared fields, as decoded from JSON (storage/filters.py).

        Raises:
            InvalidFilterError: It is malformed, beyond a limit, or about a field that is not declared.
        """
        condition = to_sql(filters, self.collection.spec)
        return self._filtered.get(
            condition,
            lambda: Snapshot(
                self.collection, tuple(narrow(self.segments, self.collection, condition)), self.duplicates, condition
            ),
        )

    def search(self, queries: torch.Tensor, mask: torch.Tensor, top_k: int) -> list[Ranking]:
        """Exact search: MaxSim over every live document.

        Args:
            queries: Token embeddings, float [queries, tokens, dim], on the segments' device.
            mask: bool [queries, tokens]: False where a token does not count.
            top_k: Most documents per query.

        Returns:
            A ranking per query.
        """
        return self.start_search(queries, mask, top_k).wait()

    def start_search(self, queries: torch.Tensor, mask: torch.Tensor, top_k: int) -> Found:
        """Gives the work of `search` to the device."""
        return _found([_search(segment, queries, mask, top_k) for segment in self.segments], len(queries), top_k)

    def search_candidates(
        self, queries: torch.Tensor, mask: torch.Tensor, top_k: int, n_probe: int, n_candidates: int
    ) -> list[Ranking]:
        """Candidate search: MaxSim over the documents of each segment with the best approximate scores.

        A segment that holds no more than `n_candidates` documents, or whose inverted lists are not made yet, is
        searched exactly.

        Args:
            queries: As for `search`.
            mask: As for `search`.
            top_k: Most documents per query.
            n_probe: Centroids that each query token probes (inverted_lists.py).
            n_candidates: Documents per segment that are scored, at least `top_k`.

        Returns:
            A ranking per query, with exact scores.
        """
        return self.start_candidate_search(queries, mask, top_k, n_probe, n_candidates).wait()

    def start_candidate_search(
        self, queries: torch.Tensor, mask: torch.Tensor, top_k: int, n_probe: int, n_candidates: int
    ) -> Found:
        """Gives the work of `search_candidates` to the device.

        Before that it waits itself, once for all segments and queries: how many entries their lists have says how much
        work there is.
        """
        found: list[_BestRows] = []
        listed: list[tuple[IndexedSegment, InvertedLists]] = []
        probes: list[Probes] = []
        for segment in self.segments:
            lists = segment.inverted.lists
            segment.inverted.wanted |= len(segment.ids) >= MIN_LISTED_DOCUMENTS
            if lists is None or segment.live.sum() <= n_candidates:
                found.append(_search(segment, queries, mask, top_k))
                continue
            listed.append((segment, lists))
            probes += [probe(query, kept, lists, n_probe) for query, kept in zip(queries, mask, strict=True)]
        of_query = iter(zip(probes, count_entries(probes), strict=True))
        for segment, lists in listed:
            live = segment.live_on_device()
            rows = torch.stack(
                [find_candidates(*next(of_query), lists, live, n_candidates) for _ in range(len(queries))]
            )
            scores = kernels.rescore(queries, segment.packed, rows, query_mask=mask)
            # Rows ascend and the sort is stable: ties by lower row.
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            rows = rows.gather(1, order)
            found.append(_BestRows(segment, scores[:, :top_k], rows[:, :top_k]))
        return _found(found, len(queries), top_k)

    def search_texts(self, query: str, top_k: int) -> Ranking:
        """The best `top_k` documents by BM25 (storage/text_index.py).

        Args:
            query: Any text; its words count.
            top_k: Most documents to return.
        """
        found = self.collection.search_texts(query, top_k + self.duplicates, self.condition)
        return self._shown(found).first(top_k) if self.duplicates else found

    def rescore(self, queries: torch.Tensor, mask: torch.Tensor, candidates: Sequence[Sequence[str]]) -> list[Ranking]:
        """Ranks given documents.

        Args:
            queries: As for `search`.
            mask: As for `search`.
            candidates: Each query's ids; those that this snapshot does not hold are left out.

        Returns:
            A ranking per query.
        """
        return self.start_rescoring(queries, mask, candidates).wait()

    def start_rescoring(self, queries: torch.Tensor, mask: torch.Tensor, candidates: Sequence[Sequence[str]]) -> Found:
        """Gives the work of `rescore` to the device."""
        scored: list[tuple[IndexedSegment, NDArray[np.int64]]] = []
        on_device: list[torch.Tensor] = []
        wanted = pa.array(chain.from_iterable(candidates), pa.large_string())
        ends = np.cumsum([len(ids) for ids in candidates])
        for segment in self.segments:
            rows = _side_by_side(np.split(segment.rows_of(wanted), ends[:-1]))
            if rows.size:
                scored.append((segment, rows))
                rows_there = copy_to_device(rows, segment.packed.device)
                on_device.append(kernels.rescore(queries, segment.packed, rows_there, query_mask=mask))

        def rankings(scores: Sequence[NDArray[Any]]) -> list[Ranking]:
            by_segment = [_hits(segment, of, rows) for (segment, rows), of in zip(scored, scores, strict=True)]
            return [
                ranked([hit for of_segment in by_segment for hit in of_segment[query].hits()]).first(len(ids))
                for query, ids in enumerate(candidates)
            ]

        return Found(on_device, rankings)

    def explain(self, query: torch.Tensor, ids: Sequence[str]) -> list[TokenMatches | None]:
        """What the scores of given documents are sums of, for one query.

        Args:
            query: The token embeddings that count, float [tokens, dim].
            ids: Distinct ones.

        Returns:
            One for each id; None where this snapshot does not hold it.
        """
        found: dict[int, TokenMatches] = {}
        wanted = pa.array(ids, pa.large_string())
        for segment in self.segments:
            rows = segment.rows_of(wanted)
            places = np.flatnonzero(rows >= 0)
            found.update(zip(places.tolist(), token_matches(segment.packed, query, rows[places]), strict=True))
        return [found.get(place) for place in range(len(ids))]

    def _shown(self, found: Ranking) -> Ranking:
        """What is left of a ranking of the store's rows where this snapshot leaves some out."""
        ids = pa.array(found.ids, pa.large_string())
        shown = np.zeros(len(ids), np.bool_)
        for segment in self.segments:
            rows = segment.rows_of(ids)
            held = np.flatnonzero(rows >= 0)
            shown[held] |= segment.addresses[rows[held]] == found.addresses[held]
        return Ranking(
            ids=[key for key, seen in zip(found.ids, shown, strict=True) if seen],
            scores=found.scores[shown],
            addresses=found.addresses[shown],
        )


def _side_by_side(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Each query's rows of a segment, once each: [queries, rows], behind shorter ones -1, which is no row."""
    distinct = [held[held >= 0] for held in map(np.unique, rows)]
    together = np.full((len(rows), max(map(len, distinct))), -1)
    for query, held in enumerate(distinct):
        together[query, : len(held)] = held
    return together


class _BestRows(NamedTuple):
    """A segment's best documents, [queries, hits] on its device."""

    segment: IndexedSegment
    scores: torch.Tensor
    rows: torch.Tensor
    plan: SearchPlan | None = None
    """What has found them: until they are on the host, its memory must not be another's."""


def _search(segment: IndexedSegment, queries: torch.Tensor, mask: torch.Tensor, top_k: int) -> _BestRows:
    top_k = min(top_k, len(segment.ids))
    if replayed := segment.plans.search(segment.packed, queries, mask, top_k):
        return _BestRows(segment, *replayed)
    approximation = segment.approximated.approximation
    return _BestRows(
        segment, *kernels.search(queries, segment.packed, top_k, query_mask=mask, approximation=approximation)
    )


def _found(found: Sequence[_BestRows], queries: int, top_k: int) -> Found:
    on_device = [tensor for best in found for tensor in (best.scores, best.rows)]
    return Found(on_device, partial(_merged, found, queries, top_k))


def _merged(found: Sequence[_BestRows], queries: int, top_k: int, copied: Sequence[NDArray[Any]]) -> list[Ranking]:
    """Each query's ranking over all segments."""
    by_segment = [
        _hits(best.segment, scores, rows) for best, scores, rows in zip(found, copied[::2], copied[1::2], strict=True)
    ]
    if len(by_segment) == 1:
        # Its order is the ranking's: by score, equal ones by row, and rows are sorted by id.
        return by_segment[0]
    return [
        ranked([hit for of_segment in by_segment for hit in of_segment[query].hits()]).first(top_k)
        for query in range(queries)
    ]


def _hits(segment: IndexedSegment, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> list[Ranking]:
    """The segment's hits of each query, in their order: one look-up of ids and addresses for all of them."""
    is_hit = scores != -np.inf
    hits, hit_scores = rows[is_hit], scores[is_hit]
    ids = segment.ids.take(pa.array(hits)).to_pylist()
    addresses = segment.addresses[hits]
    bounds = [0, *is_hit.sum(axis=1).cumsum().tolist()]
    return [Ranking(ids[a:b], hit_scores[a:b], addresses[a:b]) for a, b in pairwise(bounds)]
