"""MaxSim of the documents that a request names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tridex.index import Found, Ranking, Snapshot
from tridex.protocol import limits, models
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, invalid

from .mode import FirstStage, Mode, Queries, Scan


@dataclass(frozen=True, eq=False)  # Two are never one scan: each has queries of its own.
class GivenDocuments(Mode):
    """The documents of CANDIDATE_IDS, [queries, candidates], are scored, and no others."""

    name = "maxsim"
    candidates_given = True

    ids: tuple[tuple[str, ...], ...]
    """Of each query's candidates."""

    @classmethod
    def parse(cls, request: Request, top_k: int) -> GivenDocuments:
        ids = fields.ids(request, models.CANDIDATE_IDS)
        queries = np.shape(request.inputs[models.CANDIDATE_IDS.name])[0]
        if not 0 < len(ids) <= limits.MAX_CANDIDATES * queries:
            raise invalid(
                f"input {models.CANDIDATE_IDS.name} holds {len(ids) // queries} ids a query; "
                f"expected 1 to {limits.MAX_CANDIDATES}"
            )
        width = len(ids) // queries
        return cls(tuple(tuple(ids[i * width : (i + 1) * width]) for i in range(queries)))

    def scan(self) -> Scan:
        return self

    def find(self, snapshot: Snapshot, queries: Queries, depth: int) -> Found:
        return snapshot.start_rescoring(queries.embeddings, queries.mask, self.ids)

    def rank(self, snapshot: Snapshot, queries: Queries, first_stage: FirstStage) -> list[Ranking]:
        return first_stage.by_maxsim
