"""The rankings by MaxSim and by BM25, fused into one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tridex.index import RRF_K, Ranking, Snapshot, fuse_ranks, fuse_scores
from tridex.protocol import parameters
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, invalid

from .approximate_maxsim import ApproximateMaxSim
from .candidate_count import parse_n_candidates
from .maxsim import MaxSim
from .mode import FirstStage, Mode, Queries, Scan


@dataclass(frozen=True)
class Hybrid(Mode):
    """Fuses the best documents by MaxSim, of all documents, with the best by BM25."""

    name = "hybrid"
    parameters: ClassVar[tuple[str, ...]] = (parameters.N_CANDIDATES, parameters.MAXSIM_WEIGHT)
    needs_text = True
    scores_are_maxsim = False
    maxsim: ClassVar[type[MaxSim] | type[ApproximateMaxSim]] = MaxSim

    maxsim_scan: Scan
    n_candidates: int
    """Documents of each ranking that are fused."""
    maxsim_weight: float | None
    """MaxSim's share of a weighted sum of scores; None fuses by reciprocal rank."""

    @property
    def largest_score(self) -> float:
        # First of both rankings; and the larger of the normalised scores is 1.
        return 2 / (RRF_K + 1) if self.maxsim_weight is None else 1.0

    @classmethod
    def parse(cls, request: Request, top_k: int) -> Hybrid:
        return cls(cls.maxsim.parse(request, top_k), parse_n_candidates(request, top_k), _weight(request))

    def scan(self) -> Scan:
        return self.maxsim_scan

    def depth(self, top_k: int) -> int:
        return self.n_candidates

    def rank(self, snapshot: Snapshot, queries: Queries, first_stage: FirstStage) -> list[Ranking]:
        pairs = zip(first_stage.by_maxsim, first_stage.by_bm25, strict=True)
        weight = self.maxsim_weight
        return [fuse_ranks(*pair) if weight is None else fuse_scores(*pair, weight) for pair in pairs]


class ApproximateHybrid(Hybrid):
    """Fuses the best documents by approximate MaxSim with the best by BM25."""

    exact = False
    parameters = (parameters.N_PROBE, *Hybrid.parameters)
    maxsim = ApproximateMaxSim


def _weight(request: Request) -> float | None:
    if parameters.MAXSIM_WEIGHT not in request.parameters:
        return None
    value = request.parameters[parameters.MAXSIM_WEIGHT]
    try:
        weight = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= 1:
        raise invalid(
            f"parameter {parameters.MAXSIM_WEIGHT} is {fields.shortened(value)}; expected a number from 0 to 1, "
            "as a string"
        )
    return weight
