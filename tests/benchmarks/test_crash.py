"""What is kept of kills and stops: each fault's times, and percentiles of the calls' beside how many they were."""

from __future__ import annotations

from collections import Counter

from benchmarks.crash import FaultOutcome, Outcome, figures, table


def test_the_table_and_what_is_kept_say_the_same() -> None:
    killed = FaultOutcome(
        fault="killed", process="search", not_ready_s=0.1, ready_s=3.0, refused_before_s=[0.2], refused_after_s=[]
    )
    stopped = killed.model_copy(update={"fault": "stopped", "process": "encoder", "refused_after_s": [0.5, 1.5]})
    outcome = Outcome(call_s=3, faults=[killed, stopped, stopped], acknowledged=Counter(upsert=5, delete=1), searches=7)
    kept, text = figures(outcome), table(outcome)
    assert kept["faults"] == [["killed", "search", 0.1, 3.0], *[["stopped", "encoder", 0.1, 3.0]] * 2]
    assert kept["calls"]["stopped"]["refused_after_s"] == "1.000, 1.500, 1.500 (4)"
    assert (
        "| 1 killed: 1 search | 0.100, 0.100, 0.100 (1) | 3.000, 3.000, 3.000 (1) | 0.200, 0.200, 0.200 (1) | none |"
        in text
    )
    assert "| 2 stopped: 2 encoder |" in text and kept["calls"]["stopped"]["refused_after_s"] in text
    assert "6 acknowledged operations (5 upsert, 1 delete) and 7 searches" in text
