"""Searches the collections of a store: parsed requests with embedded queries in, hits out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import torch

from tridex import kernels
from tridex.encoding import Artifact
from tridex.index import Location, MemoryBudget, Ranking, Snapshot, Store
from tridex.protocol import models
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import Arrays, Context, RequestError, Result, invalid
from tridex.serving.collections.admission import default_budget
from tridex.serving.collections.loaded_collections import LoadedCollections, NotYetError
from tridex.serving.modes import FirstStage, Queries, Scan
from tridex.serving.modes.scores import within_float32
from tridex.serving.requests.search import SearchRequest

from .explanations import Explainer
from .hit_tensors import hit_tensors
from .pending_searches import PendingSearches
from .recall_monitor import RecallMonitor

_BM25_THREADS = 4
"""Threads that wait for BM25, which Lance computes on threads of its own; MaxSim runs meanwhile."""


@dataclass(frozen=True)
class _Search:
    """One request on its way through a batch."""

    request: SearchRequest
    snapshot: Snapshot
    """The documents that match the filters, where there are any."""
    queries: Queries
    finite: torch.Tensor
    """bool [], read after the search so that the device is never waited for twice."""
    by_bm25: list[Future[Ranking]]
    """Each query's ranking, where the mode takes one."""

    @property
    def depth(self) -> int:
        """Documents that the mode takes of each first-stage ranking."""
        return self.request.mode.depth(self.request.top_k)


class SearchEngine:
    """Searches the collections of a store, on one device."""

    def __init__(self, context: Context, artifact: Artifact, explainer: Explainer) -> None:
        manifest = artifact.manifest
        self._fingerprint, self._parts = manifest.fingerprint, manifest.component_hashes
        self._mean = manifest.rules.similarity == "meanmaxsim"
        self._device = torch.device(context.device)
        self._collections = LoadedCollections(
            Store(context.store), self._device, MemoryBudget(context.memory_budget or default_budget(self._device))
        )
        self._explainer = explainer
        self._recall_monitor = RecallMonitor(context.metrics, context.recall_sample_rate)
        self._bm25 = ThreadPoolExecutor(_BM25_THREADS, "tridex-bm25")
        self._pending = PendingSearches(self._collections.changed, self._try_answer)
        self._codecs = [codec for codec in kernels.supported_codecs(self._device) if codec.fits(manifest.dim)]
        kernels.warm_up(self._device, manifest.dim, self._codecs)

    def answer(self, requests: Sequence[SearchRequest]) -> Sequence[Result]:
        """IDS, SCORES, TEXTS, METADATA and EXPLANATIONS [queries, hits] and VERSION [queries, 1] of each request, whose
        queries are encoded where its mode needs that; a Future where the device has not yet loaded what the request
        must see.
        """
        results = self._try_answer(requests)
        return [
            self._pending.add(request) if isinstance(result, NotYetError) else result
            for request, result in zip(requests, results, strict=True)
        ]

    def trouble(self) -> str | None:
        """What keeps searches from seeing what is stored, or from their answers; None while nothing does."""
        return self._collections.trouble() or self._pending.trouble() or self._recall_monitor.trouble()

    def close(self) -> None:
        """Ends every thread; what still waits is refused."""
        self._collections.close()
        self._pending.close()
        self._recall_monitor.close()
        self._bm25.shutdown()

    def _try_answer(self, requests: Sequence[SearchRequest]) -> list[Arrays | RequestError | NotYetError]:
        # Within a batch a name leads to one collection, also when its alias is set meanwhile.
        resolve = cache(self._collections.resolve)
        results: dict[int, Arrays | RequestError | NotYetError] = {}
        searches: dict[int, _Search] = {}
        for i, request in enumerate(requests):
            try:
                searches[i] = self._prepare(request, resolve)
            except (RequestError, NotYetError) as error:
                # Without the frames, which would keep old snapshots alive in a cycle.
                results[i] = error.with_traceback(None)
        by_maxsim = self._scan(searches)
        for i, search in searches.items():
            try:
                results[i] = self._finish(search, by_maxsim.get(i, []))
            except RequestError as error:
                results[i] = error.with_traceback(None)
        return [results[i] for i in range(len(requests))]

    def _prepare(self, request: SearchRequest, resolve: Callable[[str], Location]) -> _Search:
        """Finds the request's snapshot, and has BM25 begin where its mode needs it."""
        location = resolve(request.collection)
        snapshot = self._collections.snapshot(location, request.min_version, request.last_write)
        with translated_errors():
            snapshot.collection.spec.check_checkpoint(location.name, self._fingerprint, self._parts)
            if request.filters is not None:
                snapshot = snapshot.filtered(request.filters)
        codec = snapshot.collection.spec.codec
        if codec not in self._codecs:
            supported = ", ".join(known.value for known in self._codecs)
            raise invalid(
                f"collection {snapshot.collection.name!r} has the codec {codec.value}; expected one that is searched "
                f"on {self._device}: {supported}"
            )
        queries = self._queries(request, snapshot)
        depth = request.mode.depth(request.top_k)
        texts = request.texts if request.mode.needs_text else []
        return _Search(
            request,
            snapshot,
            queries,
            finite=torch.isfinite(queries.embeddings).all(),
            by_bm25=[self._bm25.submit(snapshot.search_texts, text, depth) for text in texts],
        )

    def _queries(self, request: SearchRequest, snapshot: Snapshot) -> Queries:
        dim = snapshot.collection.spec.dim
        if not request.mode.needs_embeddings:
            return Queries(torch.zeros((request.queries, 0, dim)), torch.zeros((request.queries, 0), dtype=torch.bool))
        embeddings = torch.as_tensor(request.embeddings, device=self._device)
        if embeddings.ndim != 3 or not embeddings.shape[1] or embeddings.shape[2] != dim:
            raise invalid(
                f"input {models.QUERY_EMBEDDINGS.name} has shape {list(embeddings.shape)}; expected "
                f"[batch, tokens, {dim}], the dim of collection {snapshot.collection.name!r}"
            )
        if request.mask is None:
            mask = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=self._device)
        else:
            mask = torch.as_tensor(request.mask, device=self._device) != 0
        return Queries(embeddings, mask)

    def _scan(self, searches: dict[int, _Search]) -> dict[int, list[Ranking]]:
        """Each search's rankings by its mode's scan, where it has one: equal scans of one snapshot are one pass."""
        passes: dict[tuple[int, Scan], dict[int, _Search]] = {}
        for i, search in searches.items():
            scan = search.request.mode.scan()
            if scan is not None:
                passes.setdefault((id(search.snapshot), scan), {})[i] = search
        found: dict[int, list[Ranking]] = {}
        for (_, scan), members in passes.items():
            found.update(zip(members, self._one_pass(scan, list(members.values())), strict=True))
        return found

    def _one_pass(self, scan: Scan, searches: Sequence[_Search]) -> list[list[Ranking]]:
        """One pass over the index for the queries of all these searches; each search's rankings in order."""
        tokens = max(search.queries.mask.shape[1] for search in searches)
        queries = Queries(
            torch.cat([_padded(search.queries.embeddings, tokens) for search in searches]),
            torch.cat([_padded(search.queries.mask, tokens) for search in searches]),
        )
        snapshot = searches[0].snapshot
        rankings = iter(scan.find(snapshot, queries, max(search.depth for search in searches)))
        found = [[next(rankings).first(search.depth) for _ in search.queries.mask] for search in searches]
        if not scan.exact:
            for search, by_query in zip(searches, found, strict=True):
                own = search.queries
                for query, mask, ranking in zip(own.embeddings, own.mask, by_query, strict=True):
                    self._recall_monitor.sample(snapshot, query, mask, search.depth, ranking)
        return found

    def _finish(self, search: _Search, by_maxsim: Sequence[Ranking]) -> Arrays:
        """The answer, from the rankings by the mode's scan. Raises RequestError."""
        request, queries = search.request, search.queries
        if not bool(search.finite):
            raise invalid(f"input {models.QUERY_EMBEDDINGS.name} holds NaN or infinity; expected finite numbers")
        with translated_errors():
            by_bm25 = [future.result() for future in search.by_bm25]
        first_stage = FirstStage(within_float32(by_maxsim), by_bm25)
        ranked = request.mode.rank(search.snapshot, queries, first_stage)
        rankings = [ranking.first(request.top_k) for ranking in ranked]
        if self._mean and request.mode.scores_are_maxsim:
            scoring_tokens = queries.mask.sum(dim=1).clamp(min=1).cpu().numpy()
            rankings = [
                replace(ranking, scores=ranking.scores / tokens)
                for ranking, tokens in zip(rankings, scoring_tokens, strict=True)
            ]
        answer = hit_tensors(search.snapshot, rankings, request.with_text, request.with_metadata)
        if not request.explained:
            return answer
        return self._explainer.with_explanations(answer, request, queries, search.snapshot, rankings)


def _padded(tensor: torch.Tensor, tokens: int) -> torch.Tensor:
    """[queries, fewer tokens, ...] to [queries, tokens, ...], with zeros."""
    if tensor.shape[1] == tokens:
        return tensor
    padded = tensor.new_zeros((tensor.shape[0], tokens, *tensor.shape[2:]))
    padded[:, : tensor.shape[1]] = tensor
    return padded
