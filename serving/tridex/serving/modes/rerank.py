"""MaxSim of the best documents by BM25."""

from __future__ import annotations

from dataclasses import dataclass

from tridex.index import Found, Snapshot
from tridex.protocol import parameters
from tridex.serving.backend.service import Request

from .candidate_count import parse_n_candidates
from .mode import FirstStage, Mode, Queries


@dataclass(frozen=True)
class Rerank(Mode):
    """BM25 finds documents, MaxSim ranks them."""

    name = "rerank"
    parameters = (parameters.N_CANDIDATES,)
    needs_text = True

    n_candidates: int
    """Documents of each query that MaxSim ranks."""

    @classmethod
    def parse(cls, request: Request, top_k: int) -> Rerank:
        return cls(parse_n_candidates(request, top_k))

    def depth(self, top_k: int) -> int:
        return self.n_candidates

    def rank(self, snapshot: Snapshot, queries: Queries, first_stage: FirstStage) -> Found:
        ids = [ranking.ids for ranking in first_stage.by_bm25]
        return snapshot.start_rescoring(queries.embeddings, queries.mask, ids)
