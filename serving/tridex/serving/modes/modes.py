"""How a search finds its documents: the parameters that say so, and which of them go together."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import SearchMode
from tridex.serving.backend.service import Request, invalid
from tridex.serving.requests import fields as arguments


@dataclass(frozen=True)
class Mode:
    """A search's way, checked."""

    mode: SearchMode
    exact: bool
    """Whether MaxSim scores every document, not only the candidates of the inverted lists."""
    n_probe: int
    n_candidates: int
    """At least the hits wanted."""
    maxsim_weight: float | None
    """Hybrid: MaxSim's share in a weighted sum; None fuses by reciprocal rank."""

    @property
    def reads_text(self) -> bool:
        """Whether BM25 has a part in it."""
        return self.mode is not SearchMode.MAXSIM

    @property
    def scans(self) -> bool:
        """Whether MaxSim looks for documents by itself."""
        return self.mode in (SearchMode.MAXSIM, SearchMode.HYBRID)


def read_mode(request: Request, top_k: int) -> Mode:
    """Raises RequestError INVALID_ARGUMENT for a bad value, and for a parameter that would have no effect."""
    given = request.parameters
    mode = SearchMode(parameters.DEFAULT_MODE)
    if parameters.MODE in given:
        mode = arguments.choice(request, parameters.MODE, SearchMode)
    exact = arguments.flag(request, parameters.EXACT)
    scans = mode in (SearchMode.MAXSIM, SearchMode.HYBRID)
    effective = {
        parameters.EXACT: exact or scans,
        parameters.N_PROBE: not exact,
        parameters.N_CANDIDATES: not exact or mode in (SearchMode.RERANK, SearchMode.HYBRID),
        parameters.MAXSIM_WEIGHT: mode is SearchMode.HYBRID,
    }
    for name, has_effect in effective.items():
        if name in given and not has_effect:
            raise invalid(
                f"parameter {name} is {arguments.short(given[name])} in a search of mode {mode.value} with exact "
                f"{str(exact).lower()}, where it has no effect; expected none"
            )
    if request.get(models.CANDIDATE_IDS) is not None and (mode is not SearchMode.MAXSIM or not exact):
        raise invalid(
            f"input {models.CANDIDATE_IDS.name} is given beside mode {mode.value} with exact {str(exact).lower()}; "
            "expected mode maxsim and exact true, as given candidates are scored by MaxSim, every one"
        )
    n_candidates = arguments.integer(
        request, parameters.N_CANDIDATES, max(limits.DEFAULT_CANDIDATES, top_k), 1, limits.MAX_CANDIDATES
    )
    if n_candidates < top_k:
        raise invalid(
            f"parameter {parameters.N_CANDIDATES} is {n_candidates}; expected at least {top_k}, "
            f"which is {parameters.TOP_K}"
        )
    return Mode(
        mode=mode,
        exact=exact,
        n_probe=arguments.integer(request, parameters.N_PROBE, limits.DEFAULT_PROBE, 1, limits.MAX_PROBE),
        n_candidates=n_candidates,
        maxsim_weight=_weight(given[parameters.MAXSIM_WEIGHT]) if parameters.MAXSIM_WEIGHT in given else None,
    )


def _weight(value: object) -> float:
    try:
        weight = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= 1:
        raise invalid(
            f"parameter {parameters.MAXSIM_WEIGHT} is {arguments.short(value)}; expected a number from 0 to 1, "
            "as a string"
        )
    return weight
