"""The parameter `n_candidates`, which several modes have."""

from __future__ import annotations

from tridex.protocol import limits, parameters
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, invalid


def parse_n_candidates(request: Request, top_k: int) -> int:
    """How many documents the first stage hands on, at least `top_k`. Raises RequestError INVALID_ARGUMENT."""
    n_candidates = fields.integer(
        request,
        parameters.N_CANDIDATES,
        1,
        limits.MAX_CANDIDATES,
        default=max(limits.DEFAULT_CANDIDATES, top_k),
    )
    if n_candidates < top_k:
        raise invalid(
            f"parameter {parameters.N_CANDIDATES} is {n_candidates}; expected at least {top_k}, "
            f"which is {parameters.TOP_K}"
        )
    return n_candidates
