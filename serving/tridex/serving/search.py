"""Query embeddings to hits: exact MaxSim over a collection, or over given candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from tridex import kernels
from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Location, MemoryBudget, Ranking, Store, View
from tridex.protocol import limits, models, parameters

from . import arguments
from .collections import Collections, NotYetError
from .memory import default_budget
from .refusals import refusing
from .service import Arrays, Context, Request, RequestError, Result, as_strings, invalid
from .waiting import Waiting


@dataclass(frozen=True)
class _Search:
    """One request, checked."""

    view: View
    """The documents that match the filters, where there are any."""
    queries: torch.Tensor
    """float32 [batch, tokens, dim]"""
    mask: torch.Tensor
    """bool [batch, tokens]"""
    divisor: torch.Tensor | None
    """[batch], each query's scoring tokens, where the checkpoint's similarity is the mean over them."""
    finite: torch.Tensor
    """bool [], read after the search so that the device is never waited for twice."""
    candidates: list[list[str]] | None
    top_k: int
    with_text: bool
    with_metadata: bool


class SearchService:
    """QUERY_EMBEDDINGS [batch, tokens, dim] to IDS, SCORES, TEXTS, METADATA [batch, hits] and VERSION [batch, 1]."""

    def __init__(self, context: Context) -> None:
        manifest = load_artifact(latest_version_dir(context.repository / models.ENCODER.name)).manifest
        self._fingerprint = manifest.fingerprint
        self._mean = manifest.rules.similarity == "meanmaxsim"
        self._device = torch.device(context.device)
        self._collections = Collections(
            Store(context.store), self._device, MemoryBudget(context.memory_budget or default_budget(self._device))
        )
        self._waiting = Waiting(self._collections.changed, self._answer)
        self._codecs = [codec for codec in kernels.supported_codecs(self._device) if codec.fits(manifest.dim)]
        kernels.warm_up(self._device, manifest.dim, self._codecs)

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        """A result for each, or a Future where the device has not yet what the request must see."""
        results = self._answer(requests)
        return [
            self._waiting.add(request) if isinstance(result, NotYetError) else result
            for request, result in zip(requests, results, strict=True)
        ]

    def close(self) -> None:
        self._collections.close()
        self._waiting.close()

    def _answer(self, requests: Sequence[Request]) -> list[Arrays | RequestError | NotYetError]:
        """Requests that see the same view of a collection, by the same filters, are scored in one pass over it."""
        # Within a batch a name leads to one collection, also when its alias is set meanwhile.
        locate = cache(self._collections.locate)
        results: dict[int, Arrays | RequestError | NotYetError] = {}
        by_view: dict[int, dict[int, _Search]] = {}
        for i, request in enumerate(requests):
            try:
                search = self._check(request, locate)
            except (RequestError, NotYetError) as error:
                results[i] = error
                continue
            if search.candidates is None:
                by_view.setdefault(id(search.view), {})[i] = search
            else:
                results[i] = _response(search, _rescore(search))
        for searches in by_view.values():
            rankings = _search_together(list(searches.values()))
            for (i, search), ranking in zip(searches.items(), rankings, strict=True):
                results[i] = _response(search, ranking)
        return [results[i] for i in range(len(requests))]

    def _check(self, request: Request, locate: Callable[[str], Location]) -> _Search:
        location = locate(arguments.collection(request))
        view = self._collections.view(location, arguments.min_version(request), arguments.last_write(request))
        filters = arguments.filters(request)
        with refusing():
            view.collection.check_fingerprint(self._fingerprint)
            if filters is not None:
                view = view.filtered(filters)
        codec = view.collection.spec.codec
        if codec not in self._codecs:
            there = ", ".join(known.value for known in self._codecs)
            raise invalid(
                f"collection {view.collection.name!r} has the codec {codec.value}; expected one that is searched on "
                f"{self._device}: {there}"
            )
        queries = torch.as_tensor(request.inputs[models.QUERY_EMBEDDINGS.name], device=self._device)
        dim = view.collection.spec.dim
        if queries.ndim != 3 or not queries.shape[1] or queries.shape[2] != dim:
            raise invalid(
                f"input {models.QUERY_EMBEDDINGS.name} has shape {list(queries.shape)}; expected "
                f"[batch, tokens, {dim}], the dim of collection {view.collection.name!r}"
            )
        mask = _mask(request, queries)
        return _Search(
            view=view,
            queries=queries,
            mask=mask,
            divisor=mask.sum(dim=1).clamp(min=1) if self._mean else None,
            finite=torch.isfinite(queries).all(),
            candidates=_candidates(request, len(queries)),
            top_k=arguments.top_k(request),
            with_text=arguments.flag(request, parameters.WITH_TEXT),
            with_metadata=arguments.flag(request, parameters.WITH_METADATA),
        )


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


def _search_together(searches: Sequence[_Search]) -> list[list[Ranking]]:
    """One pass over the index for every query of every request; each request's rankings in order."""
    tokens = max(search.queries.shape[1] for search in searches)
    queries = torch.cat([_padded(search.queries, tokens) for search in searches])
    mask = torch.cat([_padded(search.mask, tokens) for search in searches])
    rankings = iter(searches[0].view.search(queries, mask, max(search.top_k for search in searches)))
    return [[next(rankings).first(search.top_k) for _ in range(len(search.queries))] for search in searches]


def _padded(tensor: torch.Tensor, tokens: int) -> torch.Tensor:
    """[batch, less, ...] to [batch, tokens, ...], with zeros."""
    if tensor.shape[1] == tokens:
        return tensor
    padded = tensor.new_zeros((tensor.shape[0], tokens, *tensor.shape[2:]))
    padded[:, : tensor.shape[1]] = tensor
    return padded


def _rescore(search: _Search) -> list[Ranking]:
    assert search.candidates is not None
    return [
        search.view.rescore(search.queries[i], search.mask[i], ids).first(search.top_k)
        for i, ids in enumerate(search.candidates)
    ]


def _response(search: _Search, rankings: Sequence[Ranking]) -> Arrays | RequestError:
    if not bool(search.finite):
        return invalid(f"input {models.QUERY_EMBEDDINGS.name} holds NaN or infinity; expected finite numbers")
    width = max(len(ranking.ids) for ranking in rankings)
    if any(len(ranking.ids) != width for ranking in rankings):
        return invalid(
            f"input {models.CANDIDATE_IDS.name}: the queries of one request have different numbers of known candidates "
            f"{[len(ranking.ids) for ranking in rankings]}; send them as requests of their own"
        )
    shape = (len(rankings), width)
    scores = np.stack([ranking.scores for ranking in rankings])
    if search.divisor is not None:
        scores /= search.divisor.cpu().numpy()[:, None]
    outputs = {
        models.IDS.name: as_strings([key for ranking in rankings for key in ranking.ids]).reshape(shape),
        models.SCORES.name: scores,
        models.VERSION.name: np.full((len(rankings), 1), search.view.version, np.int64),
    }
    if search.with_text or search.with_metadata:
        addresses = np.concatenate([ranking.addresses for ranking in rankings])
        try:
            with refusing():
                texts, metadata = search.view.collection.payload(addresses)
        except RequestError as error:
            return error
        if search.with_text:
            outputs[models.TEXTS.name] = as_strings(texts).reshape(shape)
        if search.with_metadata:
            outputs[models.METADATA.name] = as_strings(metadata).reshape(shape)
    return outputs
