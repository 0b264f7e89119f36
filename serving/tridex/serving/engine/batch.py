"""The searches of a batch on the device: their queries in one tensor, and the passes over the index that they share.

What the device finds for all of them comes back in one copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.index import Found, Ranking, Snapshot, copy_to_host, rankings_of
from tridex.serving.modes import Queries, Scan
from tridex.serving.requests.search import SearchRequest

from .query_batch import QueryBatch


@dataclass(frozen=True)
class Search:
    """One request on its way through a batch."""

    request: SearchRequest
    snapshot: Snapshot
    """The documents that match the filters, where there are any."""
    by_bm25: list[Future[Ranking]]
    """Each query's ranking, where the mode takes one."""

    @property
    def depth(self) -> int:
        """Documents that the mode takes of each first-stage ranking."""
        return self.request.mode.depth(self.request.ranked)


@dataclass(frozen=True)
class _Pass:
    members: list[int]
    scan: Scan
    found: Found


class Batch:
    """Searches by their numbers; made, its work has been given to the device."""

    def __init__(self, searches: Mapping[int, Search], dim: int, device: torch.device) -> None:
        self._searches = searches
        self._rows: dict[int, slice] = {}
        """Of the searches that have embeddings, their queries' rows in the tensor."""
        self._passes: list[_Pass] = []
        self._finite: NDArray[np.bool_] | None = None
        self._copied: Callable[[], list[NDArray[Any]]] = list
        """Waits for `are_finite`'s array and for what each pass has found."""
        scans: dict[tuple[int, Scan | None], list[int]] = {}
        for i, search in searches.items():
            if search.request.mode.needs_embeddings:
                scan = search.request.mode.scan()
                # Those without a scan need no pass, and may be of any snapshot.
                scans.setdefault((id(search.snapshot) if scan else 0, scan), []).append(i)
        if not scans:
            return
        # The queries of one pass are neighbours.
        given = [
            (searches[i].request.embeddings, searches[i].request.mask) for members in scans.values() for i in members
        ]
        self._queries = QueryBatch.of(given, dim, device)
        end = 0
        for (_, scan), members in scans.items():
            first = end
            for i in members:
                self._rows[i] = slice(end, end + searches[i].request.queries)
                end = self._rows[i].stop
            if scan:
                depth = max(searches[i].depth for i in members)
                queries = self._queries.rows(slice(first, end), max(map(self._tokens, members)))
                self._passes.append(_Pass(members, scan, scan.find(searches[members[0]].snapshot, queries, depth)))
        found = [tensor for one in self._passes for tensor in one.found.on_device]
        self._copied = copy_to_host(self._queries.finite, *found)

    def wait(self) -> dict[int, list[Ranking]]:
        """Each search's rankings by its mode's scan, where it has one."""
        found: dict[int, list[Ranking]] = {}
        if not self._rows:
            return found
        self._finite, *copied = self._copied()
        of_passes = rankings_of([one.found for one in self._passes], copied)
        for one, of_pass in zip(self._passes, of_passes, strict=True):
            rankings = iter(of_pass)
            for i in one.members:
                depth = self._searches[i].depth
                found[i] = [next(rankings).first(depth) for _ in range(self._searches[i].request.queries)]
        return found

    def queries(self, i: int) -> Queries:
        """A search's queries on the device; without tokens where its mode needs none."""
        if i not in self._rows:
            texts = self._searches[i].request.queries
            return Queries(torch.zeros((texts, 0, 0)), torch.zeros((texts, 0), dtype=torch.bool))
        return self._queries.rows(self._rows[i], self._tokens(i))

    def are_finite(self, i: int) -> bool:
        """Whether all numbers of a search's queries are finite. After `wait`."""
        return i not in self._rows or self._finite is None or bool(self._finite[self._rows[i]].all())

    def scoring_tokens(self, i: int) -> NDArray[np.int64]:
        """The tokens of each query of a search that count."""
        return self._queries.scoring_tokens[self._rows[i]]

    def _tokens(self, i: int) -> int:
        return int(self._searches[i].request.embeddings.shape[1])  # type: ignore[union-attr]
