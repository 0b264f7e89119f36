"""The comparison as text: rows for tables, and what to know when reading them."""

from __future__ import annotations

from collections.abc import Sequence

from .report import Report, Row
from .strategies import STRATEGIES

LEVEL = 0.05
"""Below it a difference counts as more than chance."""


def quality(rows: Sequence[Row], report: Report) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table of measures."""
    cells = [
        [f"{row.measures[name]:.4f} {sign(row, name, rows, report.baseline)}" for name in report.measures]
        for row in rows
    ]
    return ["system", *report.measures], [[row.system, *values] for row, values in zip(rows, cells, strict=True)]


def cost(rows: Sequence[Row]) -> tuple[list[str], list[list[str | float]]]:
    """Headers and rows of the table of latency and size."""
    sizes = ["-" if row.bytes_per_document is None else f"{row.bytes_per_document / 1000:,.1f}" for row in rows]
    return ["system", "p50 ms", "p95 ms", "p99 ms", "kB/document"], [
        [row.system, row.p50_ms, row.p95_ms, row.p99_ms, size] for row, size in zip(rows, sizes, strict=True)
    ]


def sign(row: Row, measure: str, rows: Sequence[Row], baseline: str) -> str:
    """+ or - where a row differs from the table's baseline by more than chance."""
    if row.p_values.get(measure, 1.0) >= LEVEL:
        return ""
    (tested,) = [one for one in rows if one.system == baseline]
    return "+" if row.measures[measure] > tested.measures[measure] else "-"


def best(rows: Sequence[Row]) -> dict[str, float]:
    """The best value of each measure."""
    return {name: max(row.measures[name] for row in rows) for name in rows[0].measures}


def summary(report: Report) -> str:
    """What was compared."""
    over = ", ".join(f"{one.name} ({one.documents:,} documents, {one.queries:,} queries)" for one in report.collections)
    return f"Checkpoint {report.encoder} over {over}."


def notes(report: Report) -> list[str]:
    """What the figures mean."""
    rows = report.collections[0].rows
    strategies = {row.strategy for row in rows}
    return [
        f"Marked + or -: differs from {report.baseline} by more than chance, p below {LEVEL} in a paired "
        f"randomisation test over the queries, corrected for the {len(rows) - 1} systems by Holm's method. A query "
        "without hits counts with 0. Averages are not tested.",
        "Milliseconds are those of one client, from the text to the ids, the systems asked in turns. kB/document is "
        "what the documents' token embeddings take in device memory.",
        *(strategy.note for name, strategy in STRATEGIES.items() if name in strategies and strategy.note),
    ]
