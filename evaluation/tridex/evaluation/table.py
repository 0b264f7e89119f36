"""The comparison in words: rows for tables, and what to know when reading them."""

from __future__ import annotations

from collections.abc import Sequence

from .report import Report, Row
from .systems import BI_ENCODER, CANDIDATES

LEVEL = 0.05
"""Below it a difference counts as more than chance."""


def columns(report: Report) -> list[str]:
    """The heads of the table."""
    return ["system", *report.measures, "p50 ms", "p95 ms", "p99 ms", "kB/document"]


def cells(row: Row, rows: Sequence[Row], report: Report) -> list[str | float]:
    """What the table says of one of its rows."""
    values = [f"{row.measures[name]:.4f} {sign(row, name, rows, report.baseline)}" for name in report.measures]
    size = "-" if row.bytes_per_document is None else f"{row.bytes_per_document / 1000:,.1f}"
    return [row.system, *values, row.p50_ms, row.p95_ms, row.p99_ms, size]


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
    over = ", ".join(
        f"{judged.name} ({judged.documents:,} documents, {judged.queries:,} queries)" for judged in report.collections
    )
    return f"Checkpoint {report.encoder} over {over}."


def notes(report: Report) -> list[str]:
    """What the figures mean."""
    rows = report.collections[0].rows
    said = [
        f"Marked + or -: differs from {report.baseline} by more than chance, p below {LEVEL} in a paired "
        f"randomisation test over the queries, corrected for the {len(rows) - 1} systems by Holm's method. A query "
        "without hits counts with 0. Averages are not tested.",
        "Milliseconds are one caller's, from the text to the ids, the systems asked in turns. kB/document is what the "
        "documents' token embeddings take in device memory.",
    ]
    ways = {row.way for row in rows}
    if BI_ENCODER in ways:
        said.append(
            f"{BI_ENCODER}: one vector a text by Sentence Transformers, compared with all others in the command's own "
            "process, without a server."
        )
    if "candidates" in ways:
        said.append(
            f"candidates: MaxSim over the {CANDIDATES} documents that look best by centroids; their inverted lists, "
            "some 4 bytes a token, are not counted in kB/document."
        )
    if "hybrid" in ways:
        said.append("hybrid: exact MaxSim and BM25, fused by reciprocal rank.")
    return said
