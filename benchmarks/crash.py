"""What killed and stopped processes of a server cost its callers: the figures of tests/crash/test_server_killed.py.

    make test-crash

writes them by the option --crash-results FILE, and publishes FILE by `python -m benchmarks.crash FILE`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel

from .publishing import publish

Fault = Literal["killed", "stopped"]
"""By SIGKILL, and by SIGSTOP, after which a process is stuck."""


class FaultOutcome(BaseModel):
    """What followed one fault."""

    fault: Fault
    process: str
    """tritonserver, or a model's name."""
    not_ready_s: float
    """Until the launcher said that the server is not ready."""
    ready_s: float
    """Until it was ready again, since the fault."""
    refused_before_s: list[float]
    """Of calls without retries that began before the server was not ready and were told that it is unavailable: after
    how many seconds."""
    refused_after_s: list[float]
    """Of those that began after that."""


CALLS = ("refused_before_s", "refused_after_s")


class Outcome(BaseModel):
    """What followed all of them."""

    call_s: float
    """What a client's call was allowed."""
    faults: list[FaultOutcome] = []
    acknowledged: Counter[str] = Counter()
    """Writes, by operation."""
    searches: int = 0
    failed: Counter[str] = Counter()
    """Clients' calls, by error."""
    longest_s: float = 0.0
    """Of clients' calls."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what the test has written")
    outcome = Outcome.model_validate_json(parser.parse_args().file.read_bytes())
    publish("crash", figures(outcome), table(outcome), section="Crashes")


def figures(outcome: Outcome) -> dict[str, Any]:
    """What is kept of them: each fault's times, and of the calls' times what the table says."""
    return {
        **outcome.model_dump(exclude={"faults"}),
        "faults": [
            [one.fault, one.process, round(one.not_ready_s, 3), round(one.ready_s, 3)] for one in outcome.faults
        ],
        "calls": {
            fault: {name: _percentiles(_times(outcome, fault, name)) for name in CALLS} for fault in get_args(Fault)
        },
    }


def table(outcome: Outcome) -> str:
    """A row for each fault, in Markdown, and what was checked."""
    lines = [
        "| processes | not ready after | ready again after | calls begun before it was not ready | and since then |",
        "| --- | --- | --- | --- | --- |",
    ]
    for fault in get_args(Fault):
        if those := [one for one in outcome.faults if one.fault == fault]:
            which = Counter(one.process for one in those)
            cells = [
                f"{len(those)} {fault}: {_counts(which)}",
                _percentiles([one.not_ready_s for one in those]),
                _percentiles([one.ready_s for one in those]),
                *(_percentiles(_times(outcome, fault, name)) for name in CALLS),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            "Seconds: p50, p99 and longest, of how many. The calls are searches and reads, 20 a second, that nobody "
            "retries, until they are told that the server is unavailable; none was told anything else but its answer.",
            "",
            f"{outcome.acknowledged.total():,} acknowledged operations ({_counts(outcome.acknowledged)}) and "
            f"{outcome.searches:,} searches: none lost, none wrong, no call that hung. Of clients that retry and were "
            f"allowed {outcome.call_s:.0f} s: {_counts(outcome.failed)}; the longest took {outcome.longest_s:.1f} s.",
        ]
    )


def _times(outcome: Outcome, fault: Fault, name: str) -> list[float]:
    return [seconds for one in outcome.faults if one.fault == fault for seconds in getattr(one, name)]


def _percentiles(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    p50, p99 = np.percentile(seconds, [50, 99])
    return f"{p50:.3f}, {p99:.3f}, {max(seconds):.3f} ({len(seconds):,})"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common()) or "nothing"


if __name__ == "__main__":
    main()
