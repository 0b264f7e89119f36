"""Late interaction: MaxSim of every document."""

from __future__ import annotations

from dataclasses import dataclass

from tridex.index import Found, Ranking, Snapshot
from tridex.serving.backend.service import Request

from .mode import FirstStage, Mode, Queries, Scan


@dataclass(frozen=True)
class MaxSim(Mode):
    """Every document is scored."""

    name = "maxsim"

    @classmethod
    def parse(cls, request: Request, top_k: int) -> MaxSim:
        return cls()

    def scan(self) -> Scan:
        return self

    def find(self, snapshot: Snapshot, queries: Queries, depth: int) -> Found:
        return snapshot.start_search(queries.embeddings, queries.mask, depth)

    def rank(self, snapshot: Snapshot, queries: Queries, first_stage: FirstStage) -> list[Ranking]:
        return first_stage.by_maxsim
