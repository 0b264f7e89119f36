"""The comparison as one HTML page that loads nothing else: style and plots are inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from .plots import latency_plot, size_plot
from .report import Report, Row
from .table import best, notes, sign, summary

_TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True)
class _Table:
    title: str
    rows: list[Row]

    @property
    def best(self) -> dict[str, float]:
        """The best value of each measure."""
        return best(self.rows)


def write_page(path: Path, report: Report) -> None:
    """Writes the page. Plots and, where there are several collections, the first table are of their average."""
    tables = [
        _Table(f"{one.name}: {one.documents:,} documents, {one.queries:,} queries", one.rows)
        for one in report.collections
    ]
    if len(tables) > 1:
        tables.insert(0, _Table(f"Average of {len(tables)} collections", report.average))
    template = Environment(autoescape=True, trim_blocks=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        report=report,
        summary=summary(report),
        tables=tables,
        notes=notes(report),
        sign=sign,
        size_plot=Markup(size_plot(report.average, report.measures[0])),
        latency_plot=Markup(latency_plot(report.average, report.measures[0])),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
