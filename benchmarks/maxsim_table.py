"""The MaxSim benchmark's rows as Markdown: one table per shape, a line for each batch and codec of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tridex.kernels import Codec
from tridex.kernels.codecs import precision_bits

from .maxsim_contenders import REPLAYED


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """All tables, each under a line that says what it measures."""
    parts = []
    for job, shape in {(row["job"], row["shape"]): None for row in rows}:
        of_table = [row for row in rows if (row["job"], row["shape"]) == (job, shape)]
        parts.append(f"{_title(job, shape, of_table)}\n\n{_table(of_table)}")
    return "\n\n".join(parts)


def _title(job: str, shape: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if job == "rerank":
        return f"**Rerank** of {rows[0]['documents']:,} candidates per query, {shape}:"
    sizes = {(row["documents"], row["tokens"]): row["batch"] for row in rows}
    counts = "; ".join(
        f"{documents:,} documents, {tokens / 1e6:.3g} million tokens"
        + (f", for {batch} {'query' if batch == 1 else 'queries'}" if len(sizes) > 1 else "")
        for (documents, tokens), batch in sizes.items()
    )
    return f"**Search**, {shape}; measured on {counts}:"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    others = list({row["library"]: None for row in rows if row["library"] != "tridex"})
    replays = {(row["batch"], row["precision"]): row for row in rows if row["form"].endswith(REPLAYED)}
    head = ["queries", "codec", "Tridex ms (p20 to p80)", "GB/s", "TFLOP/s", "of roofline"]
    head += ["replayed ms", "of roofline", "host us, launched; replayed"] if replays else []
    head += [*(f"{library} ms" for library in others), "against the best of them"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        if row["library"] != "tridex" or row["form"].endswith(REPLAYED):
            continue
        replay = replays.get((row["batch"], row["precision"]))
        rivals = [_best(rows, row, library) for library in others]
        fastest = min((rival["ms"]["p50"] for rival in rivals if rival), default=None)
        ms = row["ms"]
        cells = (
            *(str(row["batch"]), row["precision"], f"{_ms(ms['p50'])} ({_ms(ms['p20'])} to {_ms(ms['p80'])})"),
            *(f"{row['gb_per_s']:.3g}", f"{row['tflop_per_s']:.3g}", f"{row['roofline_percent']:.0f} %"),
            *(_replayed(row, replay) if replay else ("-",) * 3 if replays else ()),
            *(f"{_ms(rival['ms']['p50'])} ({rival['precision']})" if rival else "-" for rival in rivals),
            f"{fastest / ms['p50']:.2f}x" if fastest else "-",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _replayed(launched: Mapping[str, Any], replay: Mapping[str, Any]) -> tuple[str, str, str]:
    host = f"{launched['host_us']:.0f}; {replay['host_us']:.0f}"
    return _ms(replay["ms"]["p50"]), f"{replay['roofline_percent']:.0f} %", host


def _best(rows: Sequence[Mapping[str, Any]], ours: Mapping[str, Any], library: str) -> Mapping[str, Any] | None:
    """The library's fastest row for the same queries that keeps documents at least as precisely."""
    rivals = [
        row
        for row in rows
        if row["library"] == library and row["batch"] == ours["batch"] and _precision_bits(row) >= _precision_bits(ours)
    ]
    return min(rivals, key=lambda row: float(row["ms"]["p50"]), default=None)


def _precision_bits(row: Mapping[str, Any]) -> int:
    """Who keeps more of a number is at least as precise."""
    return precision_bits(Codec(row["precision"]))


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
