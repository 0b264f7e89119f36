"""The file that models write and guard.c reads; tests/end_to_end/test_overload.py has both sides."""

from __future__ import annotations

import struct
from pathlib import Path

from tridex.protocol import models
from tridex.serving.gate import LANES, GateLane, create_gate, open_gate


def lanes(file: Path) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("=IIQ", file.read_bytes()))


def test_lanes_have_places_of_their_own_and_let_all_through_at_first(tmp_path: Path) -> None:
    file = tmp_path / "gate"
    create_gate(file)
    assert lanes(file) == [(0, 0, 0)] * len(GateLane)
    gate = open_gate(file)
    gate(GateLane.BM25)(0.25, True)
    gate(GateLane.INGEST)(1e9, False)
    assert lanes(file)[GateLane.BM25] == (250_000, 1, 0)
    assert lanes(file)[GateLane.INGEST] == (2**32 - 1, 0, 0)
    assert lanes(file)[GateLane.SEARCH] == (0, 0, 0)
    assert file.stat().st_mode & 0o777 == 0o600


def test_every_model_that_queues_has_a_lane() -> None:
    queueing = {model.name for model in models.MODELS if not model.internal} - {models.CATALOG.name}
    assert queueing | {ensemble.name for ensemble in models.ENSEMBLES} == {of.partition("/")[0] for of in LANES}
