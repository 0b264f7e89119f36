"""The command line's `doctor`. Light to import: the checks' own imports wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tridex.common.terminal.exits import FAILED, USAGE, fail
from tridex.common.terminal.output import print_json, print_line, print_table


def doctor(
    device: Annotated[
        str | None,
        typer.Option(help="What to serve on, as `tridex serve` takes it.", show_default=False),
    ] = None,
    repository: Annotated[Path | None, typer.Option(help="The model repository, as `tridex serve` takes it.")] = None,
    store: Annotated[Path | None, typer.Option(help="The folder for the collections, likewise.")] = None,
    config: Annotated[Path | None, typer.Option(envvar="TRIDEX_CONFIG", help="The file of settings, likewise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what this machine has and what is missing for `tridex serve`, with what mends it.

    Ends with status 1 where the server cannot run on the device.
    """
    from tridex.serving.doctor import examine
    from tridex.serving.settings import InvalidSettingError, ServerSettings

    given = {"device": device, "repository": repository, "store": store}
    flags = {name: value for name, value in given.items() if value is not None}
    try:
        report = examine(ServerSettings.load(flags, config))
    except InvalidSettingError as error:
        fail(str(error), error, USAGE)
    if as_json:
        print_json(report)
    else:
        rows = [(finding.what, finding.state, finding.detail) for finding in report.findings]
        print_table(("check", "state", "found"), rows, prose=("found",))
        print_line(f"tridex serve {'can' if report.can_serve else 'cannot'} run on {report.device}.")
        if report.has_gpu and report.device == "cpu":
            print_line("The GPU is not used: `tridex doctor --device cuda` says what mends that.")
        for finding in report.findings:
            if finding.needed and finding.state != "ok":
                print_line(f"{finding.what}:")
                print_line(finding.remedy)
    if not report.can_serve:
        raise typer.Exit(FAILED)
