"""The table of modes, and which of them a request's parameters lead to."""

from __future__ import annotations

from tridex.protocol import models, parameters
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, RequestError, invalid

from .approximate_maxsim import ApproximateMaxSim
from .bm25 import Bm25
from .given_documents import GivenDocuments
from .hybrid import ApproximateHybrid, Hybrid
from .maxsim import MaxSim
from .mode import Mode
from .rerank import Rerank

MODES: tuple[type[Mode], ...] = (
    MaxSim,
    ApproximateMaxSim,
    GivenDocuments,
    Bm25,
    Rerank,
    Hybrid,
    ApproximateHybrid,
)
"""Every mode. A new one is a file in this folder and an entry here."""

_BY_REQUEST = {(mode.name, mode.exact, mode.candidates_given): mode for mode in MODES}
_NAMES = list(dict.fromkeys(mode.name for mode in MODES))
_PARAMETERS = list(dict.fromkeys(parameter for mode in MODES for parameter in mode.parameters))


def parse_mode(request: Request, top_k: int) -> Mode:
    """The request's mode. Raises RequestError INVALID_ARGUMENT for a bad value, and for a parameter without effect."""
    name = fields.one_of(request, parameters.MODE, _NAMES, parameters.DEFAULT_MODE)
    exact = fields.flag(request, parameters.EXACT)
    mode = _BY_REQUEST.get((name, exact, False))
    if mode is None:
        raise _without_effect(request, parameters.EXACT, name, exact)
    for parameter in _PARAMETERS:
        if parameter in request.parameters and parameter not in mode.parameters:
            raise _without_effect(request, parameter, name, exact)
    if request.get(models.CANDIDATE_IDS) is not None:
        mode = _BY_REQUEST.get((name, exact, True))
        if mode is None:
            raise invalid(
                f"input {models.CANDIDATE_IDS.name} is given beside mode {name} with exact {str(exact).lower()}; "
                "expected mode maxsim and exact true, as given candidates are scored by MaxSim, every one"
            )
    return mode.parse(request, top_k)


def _without_effect(request: Request, parameter: str, mode: str, exact: bool) -> RequestError:
    return invalid(
        f"parameter {parameter} is {fields.shortened(request.parameters[parameter])} in a search of mode {mode} with "
        f"exact {str(exact).lower()}, where it has no effect; expected none"
    )
