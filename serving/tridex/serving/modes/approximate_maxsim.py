"""Late interaction, approximately: MaxSim of the documents that centroid inverted lists propose."""

from __future__ import annotations

from dataclasses import dataclass

from tridex.index import Found, Ranking, Snapshot
from tridex.protocol import limits, parameters
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request

from .candidate_count import parse_n_candidates
from .mode import FirstStage, Mode, Queries, Scan


@dataclass(frozen=True)
class ApproximateMaxSim(Mode):
    """The documents with the best approximate scores are scored exactly."""

    name = "maxsim"
    exact = False
    parameters = (parameters.N_PROBE, parameters.N_CANDIDATES)

    n_probe: int
    """Centroids that a query token probes."""
    n_candidates: int
    """Documents of each query that are scored exactly."""

    @classmethod
    def parse(cls, request: Request, top_k: int) -> ApproximateMaxSim:
        n_probe = fields.integer(request, parameters.N_PROBE, 1, limits.MAX_PROBE, default=limits.DEFAULT_PROBE)
        return cls(n_probe, parse_n_candidates(request, top_k))

    def scan(self) -> Scan:
        return self

    def find(self, snapshot: Snapshot, queries: Queries, depth: int) -> Found:
        return snapshot.start_candidate_search(queries.embeddings, queries.mask, depth, self.n_probe, self.n_candidates)

    def rank(self, snapshot: Snapshot, queries: Queries, first_stage: FirstStage) -> list[Ranking]:
        return first_stage.by_maxsim
