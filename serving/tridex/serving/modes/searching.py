"""Embedded queries to hits: by MaxSim over a collection or over candidates, by BM25, or by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from tridex import kernels
from tridex.encoding import Artifact
from tridex.index import Location, MemoryBudget, Ranking, Snapshot, Store, fuse_ranks, fuse_scores
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import SearchMode
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import Arrays, Context, Request, RequestError, Result, invalid
from tridex.serving.collections.admission import default_budget
from tridex.serving.collections.collections import Collections, NotYetError
from tridex.serving.collections.pending_searches import PendingSearches
from tridex.serving.collections.recall_monitor import RecallMonitor
from tridex.serving.requests import fields as arguments

from .answers import answer_of
from .modes import Mode, read_mode

_READERS = 4
"""Threads that wait for BM25, which Lance computes on threads of its own; MaxSim runs meanwhile."""


@dataclass(frozen=True)
class _Search:
    """One request, checked."""

    snapshot: Snapshot
    """The documents that match the filters, where there are any."""
    mode: Mode
    by_text: list[Future[Ranking]]
    """Each query's ranking by BM25, where the mode has one."""
    queries: torch.Tensor
    """float32 [batch, tokens, dim]; zeros where BM25 ranks alone."""
    mask: torch.Tensor
    """bool [batch, tokens]"""
    divisor: torch.Tensor | None
    """[batch], each query's scoring tokens, where scores are MaxSim and the checkpoint's is the mean over them."""
    finite: torch.Tensor
    """bool [], read after the search so that the device is never waited for twice."""
    candidates: list[list[str]] | None
    top_k: int
    with_text: bool
    with_metadata: bool

    @property
    def depth(self) -> int:
        """Documents wanted of every ranking that the answer is made of."""
        return self.mode.n_candidates if self.mode.mode is SearchMode.HYBRID else self.top_k

    @property
    def one_pass(self) -> tuple[Any, ...]:
        """Searches for which this is equal are scored in one pass over the index."""
        return (id(self.snapshot), *(() if self.mode.exact else (self.mode.n_probe, self.mode.n_candidates)))


class Searching:
    """Searches the collections of a store, on one device."""

    def __init__(self, context: Context, artifact: Artifact) -> None:
        manifest = artifact.manifest
        self._fingerprint, self._parts = manifest.fingerprint, manifest.component_hashes
        self._mean = manifest.rules.similarity == "meanmaxsim"
        self._device = torch.device(context.device)
        self._collections = Collections(
            Store(context.store), self._device, MemoryBudget(context.memory_budget or default_budget(self._device))
        )
        self._recall_monitor = RecallMonitor(context.metrics)
        self._readers = ThreadPoolExecutor(_READERS, "tridex-bm25")
        self._pending = PendingSearches(self._collections.changed, self._answer)
        self._codecs = [codec for codec in kernels.supported_codecs(self._device) if codec.fits(manifest.dim)]
        kernels.warm_up(self._device, manifest.dim, self._codecs)

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        """QUERY_EMBEDDINGS [batch, tokens, dim], or for BM25 QUERY [batch, 1], or both, to IDS, SCORES, TEXTS and
        METADATA [batch, hits] and VERSION [batch, 1]; a Future where the device has not yet what the request must see.
        """
        results = self._answer(requests)
        return [
            self._pending.add(request) if isinstance(result, NotYetError) else result
            for request, result in zip(requests, results, strict=True)
        ]

    def trouble(self) -> str | None:
        """What keeps searches from seeing what is stored, or from their answers; None while nothing does."""
        return self._collections.trouble() or self._pending.trouble() or self._recall_monitor.trouble()

    def close(self) -> None:
        self._collections.close()
        self._pending.close()
        self._recall_monitor.close()
        self._readers.shutdown()

    def _answer(self, requests: Sequence[Request]) -> list[Arrays | RequestError | NotYetError]:
        """Requests that see the same snapshot of a collection, by the same filters, are scored in one pass over it."""
        # Within a batch a name leads to one collection, also when its alias is set meanwhile.
        resolve = cache(self._collections.resolve)
        results: dict[int, Arrays | RequestError | NotYetError] = {}
        passes: dict[tuple[Any, ...], dict[int, _Search]] = {}
        alone: dict[int, _Search] = {}
        for i, request in enumerate(requests):
            try:
                search = self._check(request, resolve)
            except (RequestError, NotYetError) as error:
                # Without the frames, which would keep old snapshots alive in a cycle.
                results[i] = error.with_traceback(None)
                continue
            if search.mode.scans and search.candidates is None:
                passes.setdefault(search.one_pass, {})[i] = search
            else:
                alone[i] = search
        for searches in passes.values():
            found = self._search_together(list(searches.values()))
            for (i, search), rankings in zip(searches.items(), found, strict=True):
                results[i] = _answer(search, rankings)
        for i, search in alone.items():
            results[i] = _answer(search, None)
        return [results[i] for i in range(len(requests))]

    def _search_together(self, searches: Sequence[_Search]) -> list[list[Ranking]]:
        """One pass over the index for every query of every request; each request's rankings in order."""
        tokens = max(search.queries.shape[1] for search in searches)
        queries = torch.cat([_padded(search.queries, tokens) for search in searches])
        mask = torch.cat([_padded(search.mask, tokens) for search in searches])
        snapshot, mode = searches[0].snapshot, searches[0].mode
        depth = max(search.depth for search in searches)
        if mode.exact:
            found = snapshot.search(queries, mask, depth)
        else:
            found = snapshot.search_candidates(queries, mask, depth, mode.n_probe, mode.n_candidates)
        rankings = iter(found)
        own = [[next(rankings).first(search.depth) for _ in search.queries] for search in searches]
        if not mode.exact:
            for search, by_query in zip(searches, own, strict=True):
                for query, kept, ranking in zip(search.queries, search.mask, by_query, strict=True):
                    self._recall_monitor.sample(snapshot, query, kept, search.depth, ranking)
        return own

    def _check(self, request: Request, resolve: Callable[[str], Location]) -> _Search:
        location = resolve(arguments.collection(request))
        snapshot = self._collections.snapshot(location, arguments.min_version(request), arguments.last_write(request))
        filters = arguments.filters(request)
        with translated_errors():
            snapshot.collection.spec.check_checkpoint(location.name, self._fingerprint, self._parts)
            if filters is not None:
                snapshot = snapshot.filtered(filters)
        codec = snapshot.collection.spec.codec
        if codec not in self._codecs:
            there = ", ".join(known.value for known in self._codecs)
            raise invalid(
                f"collection {snapshot.collection.name!r} has the codec {codec.value}; expected one that is searched "
                f"on {self._device}: {there}"
            )
        top_k = arguments.top_k(request)
        mode = read_mode(request, top_k)
        texts = arguments.texts(request, models.QUERY) if mode.reads_text else []
        if mode.mode is SearchMode.BM25:
            queries = torch.zeros((len(texts), 1, snapshot.collection.spec.dim))
            mask = torch.ones((len(texts), 1), dtype=torch.bool)
        else:
            queries = self._queries(request, snapshot)
            mask = _mask(request, queries)
        candidates = _candidates(request, len(queries))
        is_maxsim = mode.mode in (SearchMode.MAXSIM, SearchMode.RERANK)
        with_text = arguments.flag(request, parameters.WITH_TEXT)
        with_metadata = arguments.flag(request, parameters.WITH_METADATA)
        wanted = top_k if mode.mode is SearchMode.BM25 else mode.n_candidates
        return _Search(
            snapshot=snapshot,
            mode=mode,
            by_text=[self._readers.submit(snapshot.search_texts, text, wanted) for text in texts],
            queries=queries,
            mask=mask,
            divisor=mask.sum(dim=1).clamp(min=1) if self._mean and is_maxsim else None,
            finite=torch.isfinite(queries).all(),
            candidates=candidates,
            top_k=top_k,
            with_text=with_text,
            with_metadata=with_metadata,
        )

    def _queries(self, request: Request, snapshot: Snapshot) -> torch.Tensor:
        given = request.get(models.QUERY_EMBEDDINGS)
        if given is None:
            raise invalid(f"input {models.QUERY_EMBEDDINGS.name} is missing; expected it in every mode but bm25")
        queries = torch.as_tensor(given, device=self._device)
        dim = snapshot.collection.spec.dim
        if queries.ndim != 3 or not queries.shape[1] or queries.shape[2] != dim:
            raise invalid(
                f"input {models.QUERY_EMBEDDINGS.name} has shape {list(queries.shape)}; expected "
                f"[batch, tokens, {dim}], the dim of collection {snapshot.collection.name!r}"
            )
        return queries


def _mask(request: Request, queries: torch.Tensor) -> torch.Tensor:
    mask = request.get(models.QUERY_MASK)
    if mask is None:
        return torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device)
    if tuple(mask.shape) != tuple(queries.shape[:2]):
        raise invalid(
            f"input {models.QUERY_MASK.name} has shape {list(mask.shape)}; expected {list(queries.shape[:2])}, "
            f"one number per token of {models.QUERY_EMBEDDINGS.name}"
        )
    return torch.as_tensor(mask, device=queries.device) != 0


def _candidates(request: Request, batch: int) -> list[list[str]] | None:
    if request.get(models.CANDIDATE_IDS) is None:
        return None
    ids = arguments.ids(request, models.CANDIDATE_IDS)
    if not 0 < len(ids) <= limits.MAX_CANDIDATES * batch:
        raise invalid(
            f"input {models.CANDIDATE_IDS.name} holds {len(ids) // batch} ids a query; "
            f"expected 1 to {limits.MAX_CANDIDATES}"
        )
    width = len(ids) // batch
    return [ids[i * width : (i + 1) * width] for i in range(batch)]


def _padded(tensor: torch.Tensor, tokens: int) -> torch.Tensor:
    """[batch, less, ...] to [batch, tokens, ...], with zeros."""
    if tensor.shape[1] == tokens:
        return tensor
    padded = tensor.new_zeros((tensor.shape[0], tokens, *tensor.shape[2:]))
    padded[:, : tensor.shape[1]] = tensor
    return padded


def _answer(search: _Search, by_maxsim: Sequence[Ranking] | None) -> Arrays | RequestError:
    """`by_maxsim`: each query's ranking, where MaxSim looked for documents by itself."""
    if not bool(search.finite):
        return invalid(f"input {models.QUERY_EMBEDDINGS.name} holds NaN or infinity; expected finite numbers")
    try:
        with translated_errors():
            by_text = [future.result() for future in search.by_text]
        rankings = [ranking.first(search.top_k) for ranking in _rankings(search, by_maxsim, by_text)]
        if search.divisor is not None:
            divisors = search.divisor.cpu().numpy()
            rankings = [replace(r, scores=r.scores / divisor) for r, divisor in zip(rankings, divisors, strict=True)]
        return answer_of(search.snapshot, rankings, search.with_text, search.with_metadata)
    except RequestError as error:
        return error


def _rankings(search: _Search, by_maxsim: Sequence[Ranking] | None, by_text: list[Ranking]) -> Sequence[Ranking]:
    if by_maxsim is None:
        if search.mode.mode is SearchMode.BM25:
            return by_text
        candidates = search.candidates or [ranking.ids for ranking in by_text]
        rescored = [
            search.snapshot.rescore(query, kept, ids)
            for query, kept, ids in zip(search.queries, search.mask, candidates, strict=True)
        ]
        return _within_float32(rescored)
    _within_float32(by_maxsim)
    if search.mode.mode is SearchMode.MAXSIM:
        return by_maxsim
    pairs = zip(by_maxsim, by_text, strict=True)
    weight = search.mode.maxsim_weight
    return [fuse_ranks(*pair) if weight is None else fuse_scores(*pair, weight) for pair in pairs]


def _within_float32(rankings: Sequence[Ranking]) -> Sequence[Ranking]:
    """Raises RequestError INVALID_ARGUMENT where a score is beyond float32, which the kernels cut to its largest."""
    if any(np.abs(ranking.scores).max(initial=0) >= kernels.LARGEST_SCORE for ranking in rankings):
        raise invalid(
            f"input {models.QUERY_EMBEDDINGS.name} gives a score beyond {kernels.LARGEST_SCORE:.3g}; expected smaller "
            "numbers"
        )
    return rankings
