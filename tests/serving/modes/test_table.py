"""The table of modes: all that the protocol names, and which of them a request leads to."""

from __future__ import annotations

from typing import Any

import pytest
from service_requests import strings

from tridex.protocol.parameters import SEARCH_MODES
from tridex.serving.backend.service import Request
from tridex.serving.modes import MODES, Mode, parse_mode
from tridex.serving.modes.approximate_maxsim import ApproximateMaxSim
from tridex.serving.modes.bm25 import Bm25
from tridex.serving.modes.given_documents import GivenDocuments
from tridex.serving.modes.hybrid import ApproximateHybrid, Hybrid
from tridex.serving.modes.maxsim import MaxSim
from tridex.serving.modes.rerank import Rerank


def test_the_table_has_the_modes_of_the_protocol() -> None:
    assert {mode.name for mode in MODES} == set(SEARCH_MODES)
    assert len({(mode.name, mode.exact, mode.candidates_given) for mode in MODES}) == len(MODES)


@pytest.mark.parametrize(
    ("parameters", "mode"),
    [
        ({}, MaxSim()),
        ({"mode": "maxsim", "exact": True}, MaxSim()),
        ({"exact": False}, ApproximateMaxSim(n_probe=8, n_candidates=1000)),
        ({"exact": False, "n_probe": 3, "n_candidates": 40}, ApproximateMaxSim(n_probe=3, n_candidates=40)),
        ({"mode": "bm25"}, Bm25()),
        ({"mode": "rerank", "n_candidates": 40}, Rerank(n_candidates=40)),
        ({"mode": "hybrid"}, Hybrid(MaxSim(), n_candidates=1000, maxsim_weight=None)),
        (
            {"mode": "hybrid", "exact": False, "n_probe": 3, "maxsim_weight": "0.25"},
            ApproximateHybrid(ApproximateMaxSim(3, 1000), n_candidates=1000, maxsim_weight=0.25),
        ),
    ],
)
def test_parameters_lead_to_a_mode(parameters: dict[str, Any], mode: Mode) -> None:
    assert parse_mode(Request({}, parameters), top_k=10) == mode


def test_candidates_lead_to_the_mode_that_scores_them() -> None:
    candidates = strings("a", "b", "c", "d").reshape(2, 2)
    mode = parse_mode(Request({"CANDIDATE_IDS": candidates}), top_k=10)
    assert isinstance(mode, GivenDocuments) and mode.ids == (("a", "b"), ("c", "d")) and mode.scan() is mode


def test_a_wide_answer_widens_the_first_stage() -> None:
    mode = parse_mode(Request({}, {"mode": "rerank"}), top_k=2000)
    assert mode == Rerank(n_candidates=2000) and mode.depth(2000) == 2000


def test_exact_maxsim_and_exact_hybrid_share_a_pass_and_approximate_ones_by_their_parameters() -> None:
    def scan(**parameters: Any) -> object:
        return parse_mode(Request({}, parameters), top_k=10).scan()

    assert scan() == scan(mode="hybrid") == scan(mode="hybrid", n_candidates=50)
    assert scan(exact=False) == scan(mode="hybrid", exact=False) != scan()
    assert scan(exact=False, n_probe=4) != scan(exact=False)
    assert scan(mode="bm25") is scan(mode="rerank") is None
