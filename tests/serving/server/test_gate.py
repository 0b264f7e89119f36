"""The file that models write and guard.c reads; tests/end_to_end/test_overload.py has both sides."""

from __future__ import annotations

import struct
from pathlib import Path

from tridex.protocol import models
from tridex.serving.gate import LANES, NEEDING, Door, Gate, GateLane, open_gate


def lanes(file: Path) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("=IIQIIQ", file.read_bytes()[8:]))


def test_lanes_have_places_of_their_own_and_let_all_through_at_first(tmp_path: Path) -> None:
    file = tmp_path / "gate"
    Gate(file)
    assert lanes(file) == [(0, 0, 0, 0, 0, 0)] * len(GateLane)
    gate = open_gate(file)
    gate(GateLane.BM25).tell(0.25, 2.0)
    gate(GateLane.INGEST).tell(1e9, 60.0)
    assert lanes(file)[GateLane.BM25] == (250_000, 2_000_000, 0, 0, 0, 0)
    assert lanes(file)[GateLane.INGEST] == (2**32 - 1, 60_000_000, 0, 0, 0, 0)
    assert lanes(file)[GateLane.SEARCH] == (0, 0, 0, 0, 0, 0)
    assert file.stat().st_mode & 0o777 == 0o600


def test_lanes_are_shut_and_opened_beside_what_their_models_say(tmp_path: Path) -> None:
    file = tmp_path / "gate"
    gate = Gate(file)
    open_gate(file)(GateLane.BM25).tell(0.25, 2.0)
    gate.shut({GateLane.BM25, GateLane.CATALOG})
    assert [lane for lane in GateLane if lanes(file)[lane][3]] == [GateLane.BM25, GateLane.CATALOG]
    gate.shut({GateLane.INGEST})
    assert [lane for lane in GateLane if lanes(file)[lane][3]] == [GateLane.INGEST]
    assert lanes(file)[GateLane.BM25] == (250_000, 2_000_000, 0, 0, 0, 0)
    assert set(gate.shed().values()) == {0} and not gate.has_given_up and not gate.is_guarded


def test_a_lane_learns_what_the_front_ends_have_refused_since_it_asked(tmp_path: Path) -> None:
    file = tmp_path / "gate"
    gate = Gate(file)
    door, other = (open_gate(file)(lane) for lane in (GateLane.SEARCH, GateLane.ENCODING))

    def refuse(count: int, longest_us: int) -> None:
        """As guard.c counts."""
        content = bytearray(file.read_bytes())
        struct.pack_into("=QII", content, 8 + 8, count, 0, longest_us)
        file.write_bytes(content)

    refuse(3, 1_500_000)
    assert door.take_refused() == (3, 1.5)
    assert door.take_refused() == (0, 0.0)
    refuse(10, 250_000)
    assert door.take_refused() == (7, 0.25)
    assert other.take_refused() == (0, 0.0)
    assert gate.shed()[GateLane.SEARCH] == 10
    assert Door().take_refused() == (0, 0.0)


def test_every_model_has_a_lane() -> None:
    called = {model.name for model in models.MODELS if not model.internal} | {one.name for one in models.ENSEMBLES}
    assert called == {of.partition("/")[0] for of in LANES}
    assert NEEDING.keys() == {model.name for model in models.MODELS}
    assert set().union(*NEEDING.values()) == set(GateLane)
