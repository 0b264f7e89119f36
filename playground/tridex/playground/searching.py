"""One question to every system: ColBERT and BM25 by the server, the bi-encoder in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from starlette.concurrency import run_in_threadpool

from tridex.client import AsyncClient, Filters, Hit, SearchModeName
from tridex.client.rendering.pieces import Piece, QueryWord, excerpt, query_words
from tridex.common.terminal.output import snippet

from .local_ranking import LocalRanking

TOP_K = 10
_CHARACTERS = 300
"""Of an excerpt."""
_FILTERED_AT_ONCE = 1000
"""Documents that the server is asked about when it filters the bi-encoder's ranking."""

COLBERT, BI_ENCODER, BM25 = "colbert", "bi-encoder", "bm25"
SERVED: Mapping[str, SearchModeName] = {COLBERT: "maxsim", BM25: "bm25"}
"""The search mode of each system that is the server's."""


@dataclass(frozen=True)
class Found:
    """A hit to show."""

    id: str
    score: float
    pieces: list[Piece]
    """Of its text, the part with the most in it; words that the query found have a weight."""
    metadata: Mapping[str, Any]
    words: list[QueryWord] = field(default_factory=list)
    """What the words of the query found. ColBERT's alone."""
    ranks: dict[str, int | None] = field(default_factory=dict)
    """Where the other systems have it; None where it is not among their first hits."""


@dataclass(frozen=True)
class Ranking:
    """What a system found."""

    system: str
    hits: list[Found]
    ms: float
    """From the question to the hits; ColBERT's with what explaining them takes."""


async def ask(
    client: AsyncClient, collection: str, local: LocalRanking, query: str, filters: Filters | None
) -> list[Ranking]:
    """What each system finds, without the bi-encoder while it is not ready. Raises ClientError."""
    rankings = [await _served(client, collection, COLBERT, query, filters)]
    if (found := await _local(client, collection, local, query, filters)) is not None:
        rankings.append(found)
    rankings.append(await _served(client, collection, BM25, query, filters))
    ranks = {one.system: {hit.id: rank for rank, hit in enumerate(one.hits, 1)} for one in rankings}
    return [
        replace(one, hits=[replace(hit, ranks=_elsewhere(hit.id, one.system, ranks)) for hit in one.hits])
        for one in rankings
    ]


def _elsewhere(key: str, system: str, ranks: Mapping[str, Mapping[str, int]]) -> dict[str, int | None]:
    return {other: found.get(key) for other, found in ranks.items() if other != system}


async def _served(client: AsyncClient, collection: str, system: str, query: str, filters: Filters | None) -> Ranking:
    began = time.perf_counter()
    result = await client.search(
        collection, query, top_k=TOP_K, filters=filters, explain=system == COLBERT, mode=SERVED[system]
    )
    ms = 1000 * (time.perf_counter() - began)
    return Ranking(system, [_found(query, hit) for hit in result], ms)


async def _local(
    client: AsyncClient, collection: str, local: LocalRanking, query: str, filters: Filters | None
) -> Ranking | None:
    began = time.perf_counter()
    # The server alone knows what passes a filter, so with one all documents are ranked, and it is asked.
    ranked = await run_in_threadpool(local.rank, query, TOP_K if filters is None else local.status.total)
    ms = 1000 * (time.perf_counter() - began)
    if ranked is None:
        return None
    best = list(islice(ranked.items(), TOP_K)) if filters is None else []
    left = iter(ranked.items() if filters is not None else ())
    while len(best) < TOP_K and (some := dict(islice(left, _FILTERED_AT_ONCE))):
        passing = await client.rerank(query, collection=collection, ids=list(some), filters=filters)
        kept = {result.id for result in passing}
        best += [(key, score) for key, score in some.items() if key in kept][: TOP_K - len(best)]
    documents = await client.get(collection, [key for key, _ in best])
    scores = dict(best)
    hits = [Hit(one.id, scores[one.id], one.text, one.metadata) for one in documents if one is not None]
    return Ranking(BI_ENCODER, [_found(query, hit) for hit in hits], ms)


def _found(query: str, hit: Hit) -> Found:
    text, explanation = hit.text or "", hit.explanation
    if explanation is None:
        return Found(hit.id, hit.score, [Piece(snippet(text))], hit.metadata or {})
    shown = excerpt(text, explanation, _CHARACTERS)
    return Found(hit.id, hit.score, shown, hit.metadata or {}, query_words(query, explanation))
