"""Quality against cost, as SVG for a page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from .report import Row
from .strategies import EXACT

_SIZE_INCHES = (7.2, 4.4)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # Text stays text: small, and in the page's own font.
    "svg.hashsalt": "tridex",  # The same figures give the same file.
    "font.family": ["sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
}
"""How all plots of the documentation look."""


@dataclass(frozen=True)
class _Group:
    """Systems of one kind look alike."""

    label: str
    marker: str
    colour: str


_GROUPS = {
    EXACT: _Group("MaxSim, exact, by codec", "o", "#1f5fbf"),
    "pooled": _Group("MaxSim, pooled tokens", "D", "#2b8a57"),
    "other": _Group("candidates, rerank, hybrid", "^", "#c46a12"),
    "bi-encoder": _Group("bi-encoder", "s", "#7a3fa0"),
    "bm25": _Group("bm25", "X", "#555b63"),
}

_PLACES = [(dx, dy) for dy in (-3, 6, -12, 15, -21, 24, -30, 33, -39) for dx in (7, -7)]
"""Offsets of a label from its mark, in points: the first one that covers nothing is taken."""

_NEAR = 12
"""Labels farther away, in points, get a line to their mark."""


def _group(row: Row) -> str:
    if row.strategy in _GROUPS and row.strategy != EXACT:
        return row.strategy
    if row.strategy != EXACT:
        return "other"
    return "pooled" if row.pooling_factor > 1 else EXACT


def size_plot(rows: Sequence[Row], measure: str) -> str:
    """The measure against bytes per document on the device; a system that keeps none there is a line."""
    return _plot(rows, measure, lambda row: row.bytes_per_document, "kB per document on the device", 1000)


def latency_plot(rows: Sequence[Row], measure: str) -> str:
    """The measure against the median milliseconds per query."""
    return _plot(rows, measure, lambda row: row.p50_ms, "median ms per query, one client", 1)


@dataclass(frozen=True)
class _Point:
    """A system in a plot."""

    x: float
    y: float
    system: str
    group: _Group


def _plot(rows: Sequence[Row], measure: str, cost: Callable[[Row], float | None], label: str, unit: float) -> str:
    points, lines = [], []
    for row in rows:
        value, y, group = cost(row), row.measures[measure], _GROUPS[_group(row)]
        if value is None:
            lines.append(_Point(0, y, row.system, group))
        else:
            points.append(_Point(value / unit, y, row.system, group))
    with rc_context(STYLE):
        # 72 dots per inch, as in SVG: labels are placed by their size.
        figure = Figure(_SIZE_INCHES, dpi=72, layout="constrained")
        axes = figure.subplots()
        for group in _GROUPS.values():
            own = [point for point in points if point.group is group]
            if own:
                places = [point.x for point in own], [point.y for point in own]
                axes.scatter(*places, s=36, marker=group.marker, color=group.colour, label=group.label, zorder=3)
        for line in lines:
            axes.axhline(line.y, linestyle="--", linewidth=1, color=line.group.colour, label=line.system)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label)
        axes.set_ylabel(measure)
        axes.margins(x=0.12, y=0.12)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        # The layout is final before labels are placed in it.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _label(axes, points)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def _label(axes: Axes, points: Sequence[_Point]) -> None:
    """Writes each point's name beside it, where it covers no other name, and no other point where that is possible."""
    taken: list[Bbox] = []
    marks = [axes.transData.transform((point.x, point.y)) for point in points]
    around = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in marks]
    for i, point in enumerate(points):
        others = around[:i] + around[i + 1 :]
        place = point.x, point.y
        tried: list[tuple[int, int, Annotation, Bbox]] = []
        for dx, dy in _PLACES:
            align = "left" if dx > 0 else "right" if dx < 0 else "center"
            text = axes.annotate(
                point.system,
                place,
                (dx, dy),
                textcoords="offset points",
                horizontalalignment=align,
                fontsize=8,
                color=point.group.colour,
            )
            box = text.get_window_extent()
            text.set_visible(False)
            outside = not (axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1)
            covered = 10 * sum(map(box.overlaps, taken)) + sum(map(box.overlaps, others)) + 100 * outside
            tried.append((covered, len(tried), text, box))
        _, chosen, text, box = min(tried)
        text.set_visible(True)
        taken.append(box)
        for _, _, other, _ in tried:
            if other is not text:
                other.remove()
        dx, dy = _PLACES[chosen]
        if abs(dy) > _NEAR:
            axes.annotate(
                "",
                place,
                (dx, dy + 3),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": point.group.colour},
            )
