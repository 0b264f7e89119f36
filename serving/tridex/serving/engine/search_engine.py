"""Searches the collections of a store: parsed requests with embedded queries in, hits out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from tridex import kernels
from tridex.encoding import Artifact
from tridex.index import Found, Location, MemoryBudget, Ranking, Snapshot, Store, wait_for_all
from tridex.protocol import models
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import Arrays, Context, RequestError, Result, invalid
from tridex.serving.collections.loaded_collections import LoadedCollections, NotYetError
from tridex.serving.metrics.registry import Gauge
from tridex.serving.metrics.table import PENDING, Stage
from tridex.serving.modes import FirstStage, Queries
from tridex.serving.modes.scores import within_float32
from tridex.serving.requests.search import SearchRequest

from .batch import Batch, Search
from .explanations import Explainer
from .hit_tensors import Hits, hit_tensors
from .pending_searches import PendingSearches
from .recall_monitor import RecallMonitor

_BM25_THREADS = 4
"""Threads that wait for BM25, which Lance computes on threads of its own; MaxSim runs meanwhile."""


_Answer = Arrays | RequestError | NotYetError


class SearchEngine:
    """Searches the collections of a store, on one device."""

    def __init__(
        self, context: Context, artifact: Artifact, explainer: Explainer, stream: torch.cuda.Stream | None = None
    ) -> None:
        """`stream`: what a GPU does the work of searches on, and their encoder's; None on a CPU."""
        manifest = artifact.manifest
        self._fingerprint, self._parts = manifest.fingerprint, manifest.component_hashes
        self._mean = manifest.rules.similarity == "meanmaxsim"
        self._dim = manifest.dim
        self._device = torch.device(context.device)
        self._stream = stream
        self._collections = LoadedCollections(
            Store(context.store), self._device, MemoryBudget(context.memory_budget), context.metrics
        )
        self._explainer = explainer
        self._recall_monitor = RecallMonitor(context.metrics, context.recall_sample_rate, stream)
        self._bm25 = ThreadPoolExecutor(_BM25_THREADS, "tridex-bm25")
        self._pending = PendingSearches(self._collections.changed, self._try_answer)
        context.metrics.gauges(lambda: [Gauge(PENDING, (), len(self._pending))])
        self._codecs = [codec for codec in kernels.supported_codecs(self._device) if codec.fits(manifest.dim)]
        if self._device.type == "cpu":
            # In the time that one takes; when a collection comes with another, that would stop searches.
            kernels.warm_up(self._device, manifest.dim, self._codecs)

    def answer(self, requests: Sequence[SearchRequest]) -> Sequence[Result]:
        """IDS, SCORES, TEXTS, METADATA and EXPLANATIONS [queries, hits] and VERSION [queries, 1] of each request, whose
        queries are encoded where its mode needs that; a Future where the device has not yet loaded what the request
        must see.
        """
        return self.start(requests)()

    def start(self, requests: Sequence[SearchRequest]) -> Callable[[], Sequence[Result]]:
        """Gives the work of `answer` to the device, and returns what waits for it and makes the answers.

        On a GPU the next batch can be started before that.
        """
        answers = self._start(requests)

        def wait() -> Sequence[Result]:
            return [
                self._pending.add(request) if isinstance(result, NotYetError) else result
                for request, result in zip(requests, answers(), strict=True)
            ]

        return wait

    def trouble(self) -> str | None:
        """What keeps searches from seeing what is stored, or from their answers; None while nothing does."""
        if self._stream is not None:
            try:
                self._stream.query()
            except RuntimeError as error:  # CUDA's: from then on nothing works in this process
                return f"{self._device} is lost to this process: {error}"
        return self._collections.trouble() or self._pending.trouble() or self._recall_monitor.trouble()

    def close(self) -> None:
        """Ends every thread; what still waits is refused."""
        self._collections.close()
        self._pending.close()
        self._recall_monitor.close()
        self._bm25.shutdown()

    def _start(self, requests: Sequence[SearchRequest]) -> Callable[[], list[_Answer]]:
        began = time.monotonic()
        # Within a batch a name leads to one collection, also when its alias is set meanwhile.
        resolve = cache(self._collections.resolve)
        results: dict[int, _Answer] = {}
        searches: dict[int, Search] = {}
        for i, request in enumerate(requests):
            try:
                searches[i] = self._prepare(request, resolve)
            except (RequestError, NotYetError) as error:
                # Without the frames, which would keep old snapshots alive in a cycle.
                results[i] = error.with_traceback(None)
        with torch.cuda.stream(self._stream):
            batch = Batch(searches, self._dim, self._device)

        def finish() -> list[_Answer]:
            with torch.cuda.stream(self._stream):
                results.update(self._finish(searches, batch, began))
            return [results[i] for i in range(len(requests))]

        return finish

    def _try_answer(self, requests: Sequence[SearchRequest]) -> list[_Answer]:
        return self._start(requests)()

    def _prepare(self, request: SearchRequest, resolve: Callable[[str], Location]) -> Search:
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
        self._check_embeddings(request, snapshot)
        depth = request.mode.depth(request.ranked)
        texts = request.texts if request.mode.needs_text else []
        by_bm25 = [self._bm25.submit(_rank_by_words, request, snapshot, text, depth) for text in texts]
        return Search(request, snapshot, by_bm25)

    def _check_embeddings(self, request: SearchRequest, snapshot: Snapshot) -> None:
        """Raises RequestError INVALID_ARGUMENT where the embeddings are not of this checkpoint's shape."""
        if not request.mode.needs_embeddings:
            return
        shape = () if request.embeddings is None else tuple(request.embeddings.shape)
        if len(shape) != 3 or not shape[1] or shape[2] != self._dim:
            raise invalid(
                f"input {models.QUERY_EMBEDDINGS.name} has shape {list(shape)}; expected "
                f"[batch, tokens, {self._dim}], the dim of collection {snapshot.collection.name!r}"
            )

    def _finish(self, searches: dict[int, Search], batch: Batch, began: float) -> dict[int, _Answer]:
        """The answers, once the device is done, which has worked on them since `began`."""
        by_maxsim = batch.wait()
        scored = time.monotonic()
        scanned = [searches[i].request.sender.timeline for i in by_maxsim]
        for timeline in scanned:
            timeline.add(Stage.SCORE, began, scored, 1 / len(scanned))
        answers: dict[int, _Answer] = {}
        ranked: dict[int, list[Ranking] | Found] = {}
        for i, search in searches.items():
            try:
                ranked[i] = self._rank(i, search, batch, by_maxsim.get(i, []))
            except RequestError as error:
                answers[i] = error.with_traceback(None)
        hits: dict[int, Hits] = {}
        for i, rankings in self._waited(searches, ranked).items():
            try:
                hits[i] = self._hits(i, searches[i], batch, within_float32(rankings))
            except RequestError as error:
                answers[i] = error.with_traceback(None)
        was_ranked = time.monotonic()
        tensors = hit_tensors(list(hits.values()))
        fetched = time.monotonic()
        for i in hits:
            searches[i].request.sender.timeline.add(Stage.FETCH, was_ranked, fetched, 1 / len(hits))
        for i, answer in zip(hits, tensors, strict=True):
            try:
                answers[i] = self._explained(answer, searches[i], batch.queries(i), hits[i])
            except RequestError as error:
                answers[i] = error.with_traceback(None)
        return answers

    def _rank(self, i: int, search: Search, batch: Batch, by_maxsim: list[Ranking]) -> list[Ranking] | Found:
        """What the search's mode makes of the rankings by its scan. Raises RequestError."""
        request = search.request
        if not batch.are_finite(i):
            raise invalid(f"input {models.QUERY_EMBEDDINGS.name} holds NaN or infinity; expected finite numbers")
        with translated_errors():
            by_bm25 = [future.result() for future in search.by_bm25]
        first_stage = FirstStage(within_float32(by_maxsim), by_bm25)
        queries = batch.queries(i)
        scan = request.mode.scan()
        if scan is not None and not scan.exact:
            self._sample(search, queries, by_maxsim)
        # A part of the scoring, where there was a scan before.
        began = time.monotonic()
        ranked = request.mode.rank(search.snapshot, queries, first_stage)
        if request.mode.needs_embeddings:
            share = 0.0 if scan or isinstance(ranked, Found) else 1.0
            request.sender.timeline.add(Stage.SCORE, began, time.monotonic(), share)
        return ranked

    @staticmethod
    def _waited(searches: dict[int, Search], ranked: dict[int, list[Ranking] | Found]) -> dict[int, list[Ranking]]:
        """The rankings, once the device has made those that it has to: all of them in one copy."""
        waiting = {i: found for i, found in ranked.items() if isinstance(found, Found)}
        began = time.monotonic()
        waited = dict(zip(waiting, wait_for_all(list(waiting.values())), strict=True))
        for i in waiting:
            searches[i].request.sender.timeline.add(Stage.SCORE, began, time.monotonic(), 1 / len(waiting))
        return {i: waited[i] if isinstance(found, Found) else found for i, found in ranked.items()}

    def _hits(self, i: int, search: Search, batch: Batch, ranked: list[Ranking]) -> Hits:
        """What the request wants to have of the rankings of its mode."""
        request = search.request
        rankings = [ranking.first(request.ranked) for ranking in ranked]
        if request.mode.scores_are_maxsim and (self._mean or request.normalize):
            scoring_tokens = batch.scoring_tokens(i).clip(min=1)
            rankings = [_divided(ranking, tokens) for ranking, tokens in zip(rankings, scoring_tokens, strict=True)]
        if request.normalize:
            largest = request.mode.largest_score or 1.0
            rankings = [_within_one(_divided(ranking, largest)) for ranking in rankings]
        rankings = [ranking.after(request.offset) for ranking in rankings]
        if request.min_score is not None:
            rankings = [ranking.at_least(request.min_score) for ranking in rankings]
        return Hits(search.snapshot, rankings, request.with_text, request.with_metadata)

    def _explained(
        self, answer: Arrays | RequestError, search: Search, queries: Queries, hits: Hits
    ) -> Arrays | RequestError:
        """The answer, with explanations where they are asked for. Raises RequestError."""
        if isinstance(answer, RequestError) or not search.request.explained:
            return answer
        with search.request.sender.timeline.stage(Stage.EXPLAIN):
            return self._explainer.with_explanations(answer, search.request, queries, hits.snapshot, hits.rankings)

    def _sample(self, search: Search, queries: Queries, rankings: Sequence[Ranking]) -> None:
        for query, mask, ranking in zip(queries.embeddings, queries.mask, rankings, strict=True):
            self._recall_monitor.sample(search.snapshot, query, mask, search.depth, ranking)


def _rank_by_words(request: SearchRequest, snapshot: Snapshot, text: str, depth: int) -> Ranking:
    with request.sender.timeline.stage(Stage.BM25):
        return snapshot.search_texts(text, depth)


def _divided(ranking: Ranking, by: float) -> Ranking:
    return replace(ranking, scores=ranking.scores / np.float32(by))


def _within_one(ranking: Ranking) -> Ranking:
    """Cosines may be below 0, and products of embeddings that a client gave above 1."""
    return replace(ranking, scores=ranking.scores.clip(0, 1))
