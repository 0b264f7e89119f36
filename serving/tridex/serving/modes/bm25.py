"""BM25: the words of a query against the words of documents."""

from __future__ import annotations

from dataclasses import dataclass

from tridex.index import Ranking, Snapshot
from tridex.serving.backend.service import Request

from .mode import FirstStage, Mode, Queries


@dataclass(frozen=True)
class Bm25(Mode):
    """BM25 ranks alone, so no query is encoded."""

    name = "bm25"
    needs_text = True
    needs_embeddings = False
    scores_are_maxsim = False

    @classmethod
    def parse(cls, request: Request, top_k: int) -> Bm25:
        return cls()

    def rank(self, snapshot: Snapshot, queries: Queries, first_stage: FirstStage) -> list[Ranking]:
        return first_stage.by_bm25
