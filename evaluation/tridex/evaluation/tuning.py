"""Which codec and pooling to take, from what a comparison measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tridex.common import TridexError

from .report import Report, Row


class TuningError(TridexError):
    """Nothing that was measured fits. The message names what comes nearest."""


@dataclass(frozen=True)
class Limits:
    """What a server may use."""

    documents: int
    budget_bytes: float
    """The server's `--memory-budget`."""
    p95_ms: float


@dataclass(frozen=True)
class Option:
    """One system, and what it would take."""

    row: Row
    """Its averages."""
    quality: float
    budget_bytes: float
    p95_ms: float
    """The longest of all the collections that were measured."""
    measured_over: int
    """Documents of that collection."""

    def excess(self, limits: Limits) -> float:
        """How many times over the limits it is, by the worse of the two; it fits up to 1."""
        return max(self.budget_bytes / limits.budget_bytes, self.p95_ms / limits.p95_ms)


@dataclass(frozen=True)
class Proposal:
    """What to take, and what it was chosen from."""

    chosen: Option
    best: Option
    """The best of those that fit, which may be the chosen one."""
    fitting: int
    measured: int


def propose(report: Report, limits: Limits, tolerance: float) -> Proposal:
    """Of the systems that fit, those within `tolerance` of the best one's quality, and of these the smallest.

    Memory grows in proportion to the documents. Time is taken as measured.

    Raises:
        TuningError: No system of the report fits the limits.
    """
    measured = options(report, limits.documents)
    if not measured:
        raise TuningError("no system of this comparison keeps token embeddings; expected some codecs among them")
    fitting = [option for option in measured if option.excess(limits) <= 1]
    if not fitting:
        nearest = min(measured, key=lambda option: option.excess(limits))
        smallest = min(measured, key=lambda option: option.budget_bytes)
        fastest = min(measured, key=lambda option: option.p95_ms)
        raise TuningError(
            f"nothing of {len(measured)} systems fits {limits.documents:,} documents into a budget of "
            f"{limits.budget_bytes / 1e9:,.2f} GB with a p95 of {limits.p95_ms:g} ms. Nearest comes "
            f"{described(nearest)}; the smallest is {described(smallest)}; the fastest is {described(fastest)}"
        )
    best = max(fitting, key=lambda option: option.quality)
    close = [option for option in fitting if option.quality >= best.quality - tolerance]
    return Proposal(min(close, key=lambda option: option.budget_bytes), best, len(fitting), len(measured))


def options(report: Report, documents: int) -> list[Option]:
    """Every system with token embeddings, and what it would take for so many documents."""
    return [
        Option(
            row,
            row.measures[report.measures[0]],
            documents * row.budget_bytes_per_document,
            *max((one.rows[i].p95_ms, one.documents) for one in report.collections),
        )
        for i, row in enumerate(report.average)
        if row.budget_bytes_per_document is not None
    ]


def described(option: Option) -> str:
    """An option and its figures."""
    return f"{option.row.system} ({option.budget_bytes / 1e9:,.2f} GB, {option.p95_ms:.1f} ms, {option.quality:.4f})"


def reasons(proposal: Proposal, report: Report, limits: Limits, tolerance: float) -> Sequence[str]:
    """Why that one, in sentences."""
    chosen, best, measure = proposal.chosen, proposal.best, report.measures[0]
    over = ", ".join(one.name for one in report.collections)
    lines = [
        f"{proposal.fitting} of {proposal.measured} systems fit; the best of them is {best.row.system}, with {measure} "
        f"{best.quality:.4f} ({'mean over ' if len(report.collections) > 1 else ''}{over})."
    ]
    if chosen is not best:
        lines.append(
            f"{chosen.row.system} is {best.quality - chosen.quality:.4f} below, within the tolerance of {tolerance:g}, "
            f"and takes {chosen.budget_bytes / best.budget_bytes:.0%} of its memory."
        )
    lines.append(
        f"Memory: {limits.documents:,} documents like those need a budget of {chosen.budget_bytes / 1e9:,.2f} GB "
        f"of the {limits.budget_bytes / 1e9:,.2f} GB; room for deleted rows and for copying is in it."
    )
    time = (
        f"Time: p95 was {chosen.p95_ms:.1f} ms at most, of the {limits.p95_ms:g} ms, over {chosen.measured_over:,} "
        "documents and with one client."
    )
    if limits.documents > chosen.measured_over:
        time += f" Scoring takes longer with more: measure {limits.documents:,} before you rely on it."
    return [*lines, time]
