"""The file by which models learn which calls were cancelled."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from tridex.serving.cancelled_calls import PARAMETER, CancelledCalls, make_file


def cancel(file: Path, number: int) -> None:
    """As guard.c does."""
    places = file.stat().st_size // 8
    with file.open("r+b") as opened:
        opened.seek(number % places * 8)
        opened.write(struct.pack("=Q", number))


def test_a_call_is_cancelled_when_its_number_is_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "cancelled"
    make_file(file)
    assert file.stat().st_mode & 0o777 == 0o600
    calls = CancelledCalls(file)
    places = file.stat().st_size // 8
    same_place = [calls.take({PARAMETER: number}) for number in (7, 7 + places, 7 + 2 * places)]
    assert all(same_place)
    for number, expected in ((7, [True, False, False]), (7 + 2 * places, [False, False, True])):
        cancel(file, number)
        assert [is_cancelled and is_cancelled() for is_cancelled in same_place] == expected


def test_the_number_is_taken_out_of_the_parameters(tmp_path: Path) -> None:
    make_file(tmp_path / "cancelled")
    parameters: dict[str, Any] = {PARAMETER: 3, "collection": "c"}
    CancelledCalls(tmp_path / "cancelled").take(parameters)
    assert parameters == {"collection": "c"}


@pytest.mark.parametrize("parameters", [{}, {PARAMETER: "7"}, {PARAMETER: 7.5}])
def test_a_call_without_a_number_is_not_known(tmp_path: Path, parameters: dict[str, Any]) -> None:
    make_file(tmp_path / "cancelled")
    assert CancelledCalls(tmp_path / "cancelled").take(parameters) is None
    assert CancelledCalls(None).take({PARAMETER: 7}) is None
