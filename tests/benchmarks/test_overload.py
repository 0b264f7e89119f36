"""The overload benchmark: its figures from what was measured."""

from __future__ import annotations

import pytest

from benchmarks import overload


def test_answers_are_counted_by_the_second() -> None:
    assert overload.each_second([9.9, 10.0, 10.5, 11.99, 12.0], 10.0, 2) == [2, 1]


def test_an_answer_counts_from_when_its_request_was_sent() -> None:
    ends = overload.Ends([overload.End(*end) for end in (("OK", 10.9, 11.5), ("OK", 11.25, 11.5), ("X", 11.0, 12.0))])
    assert ends.ms("OK") == [pytest.approx(600.0), 250.0] and ends.ms("OK", since=11.0) == [250.0]
    assert ends.answered_at == [11.5, 11.5] and ends.by_status == {"OK": 2, "X": 1}


def test_a_row_says_what_became_of_all_requests() -> None:
    run = {
        "timeout_s": 1.0,
        "capacity_per_s": 100.0,
        "sent_per_s": 1000.0,
        "accepted_per_s": 60.0,
        "accepted_ms": {"p50": 800.0, "p99": 950.0, "p99_later": 90.0},
        "refused_ms": {"p50": 2.0, "p99": None, "p100": 90.0, "p100_later": 30.0, "p100_control": 25.0},
        "refused_late": 7,
        "ends": {"OK": 60, "OVERLOADED": 930, "DEADLINE_EXCEEDED": 10},
        "seconds_after": [95, 100],
        "seconds_idle": [94, 101],
    }
    table = overload.markdown({"p50_ms": 15.0, "p99_ms": 30.0}, [run])
    row = table.splitlines()[2]
    cells = ["1.00 s", "100", "1000", "60 (60%)", "800.0", "950.0", "90.0", "93.0%"]
    cells += ["2.0", "-", "90.0", "30.0", "25.0", "7", "1.00%"]
    assert row == f"| {' | '.join(cells)} | 95 (95%), 100 (100%) | 94 (94%), 101 (101%) |"
    assert table.endswith("One client alone: p50 15.0 ms, p99 30.0 ms.")
