"""The command line's `tune`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tridex.client.cli.connection import Json
from tridex.common.terminal.exits import failing
from tridex.common.terminal.output import print_json, print_line, print_table


def tune(
    comparison: Annotated[
        Path, typer.Argument(help="What `tridex compare --json` printed; - for standard input.", show_default=False)
    ],
    budget_gb: Annotated[
        float, typer.Option(min=0.0, help="Memory that collections may take on the device, in GB.", show_default=False)
    ],
    p95_ms: Annotated[
        float, typer.Option(min=0.0, help="Milliseconds that 95 of 100 searches may take.", show_default=False)
    ],
    documents: Annotated[
        int | None,
        typer.Option(min=1, help="Documents there will be; as many as were compared where left out."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Quality to give up for less memory, in the first measure.")
    ] = 0.005,
    as_json: Json = False,
) -> None:
    """Propose a codec and token pooling for a memory budget and a latency, from a comparison's figures."""
    from tridex.evaluation.report import Report, ReportError
    from tridex.evaluation.strategies import STRATEGIES
    from tridex.evaluation.tuning import Limits, options, propose, reasons

    if not (budget_gb > 0 and p95_ms > 0):
        raise typer.BadParameter(f"--budget-gb is {budget_gb:g} and --p95-ms {p95_ms:g}; expected more than 0")
    with failing():
        text = sys.stdin.buffer.read() if str(comparison) == "-" else comparison.read_bytes()
        try:
            report = Report.from_dict(json.loads(text))
        except (ReportError, ValueError, RecursionError) as error:
            raise ReportError(f"{comparison}: {error}") from error
        count = documents or max(one.documents for one in report.collections)
        limits = Limits(count, budget_gb * 1e9, p95_ms)
        proposal = propose(report, limits, tolerance)
    row = proposal.chosen.row
    why = reasons(proposal, report, limits, tolerance)
    if as_json:
        chosen = {
            "system": row.system,
            "codec": row.codec,
            "pooling_factor": row.pooling_factor,
            "strategy": row.strategy,
        }
        cost = {"budget_bytes": proposal.chosen.budget_bytes, "p95_ms": proposal.chosen.p95_ms}
        print_json({**chosen, report.measures[0]: proposal.chosen.quality, **cost, "why": why})
        return
    print_table(
        ("system", report.measures[0], "budget GB", "p95 ms", "fits"),
        [
            (option.row.system, option.quality, option.budget_bytes / 1e9, option.p95_ms, _fits(option.excess(limits)))
            for option in sorted(options(report, count), key=lambda option: -option.quality)
        ],
    )
    print_line(f"Take {row.system}.")
    for line in why:
        print_line(line)
    pooling = f" --pooling-factor {row.pooling_factor}" if row.pooling_factor > 1 else ""
    print_line(f"Build: tridex index build CORPUS --collection NAME --codec {row.codec}{pooling}")
    if flags := STRATEGIES[row.strategy].flags:
        print_line(f"Search: tridex search NAME QUERY {flags}")


def _fits(excess: float) -> str:
    return "yes" if excess <= 1 else ""
