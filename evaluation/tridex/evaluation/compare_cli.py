"""The command line's `compare`. Light to import: what measures waits until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tridex.client.cli.connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected
from tridex.common.terminal.exits import fail
from tridex.common.terminal.output import print_json, print_line, print_table

from .cli import Split

if TYPE_CHECKING:
    from .report import Report

DEFAULT_BI_ENCODER = "default"


def compare(
    datasets: Annotated[
        list[str],
        typer.Argument(help="Judged collections: folders in BEIR's layout, or ir_datasets:NAME.", show_default=False),
    ],
    systems: Annotated[
        str | None,
        typer.Option(
            help="Systems, with commas between: bm25, bi-encoder, a codec, and a codec with +pool2, +candidates, "
            "+rerank or +hybrid; all of them where left out."
        ),
    ] = None,
    baseline: Annotated[str, typer.Option(help="The system that the others are tested against.")] = "float16",
    split: Split = None,
    measures: Annotated[
        str, typer.Option(help="Names of ir_measures, with commas between; the first is plotted.")
    ] = "nDCG@10,RR@10,R@10,R@100",
    top_k: Annotated[int, typer.Option(help="Documents asked for.")] = 100,
    bi_encoder: Annotated[
        str | None,
        typer.Option(
            help="The bi-encoder's folder or Hub id; 'default': the encoder behind the default checkpoint. Left out, "
            "there is none."
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="The folder of the server's collections: those that are missing are built in it."),
    ] = None,
    repository: Annotated[Path, typer.Option(help="The server's model repository, for building.")] = Path(
        "model_repository"
    ),
    runs: Annotated[Path | None, typer.Option(help="A folder for the rankings, in TREC's format.")] = None,
    page: Annotated[Path | None, typer.Option(help="A file for the HTML page, with plots.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Set systems side by side on the same judged queries: BM25, a bi-encoder, every codec, pooled tokens, candidates.

    All but the bi-encoder are asked through the server. A query without hits counts with 0.
    """
    from tridex.building import BuildError
    from tridex.common import TridexError
    from tridex.encoding import ArtifactError
    from tridex.index import TokenIndexError
    from tridex.kernels import Codec

    from .comparison import compare_all
    from .dataset import DatasetError, load_dataset
    from .measures import MeasureError, check_depth, parse_measures
    from .stores import CollectionError
    from .systems import BI_ENCODER, DEFAULT_SYSTEMS, UnknownSystemError, parse_systems

    try:
        names = systems.split(",") if systems else [n for n in DEFAULT_SYSTEMS if bi_encoder or n != BI_ENCODER]
        wanted = parse_systems(names, [codec.value for codec in Codec])
        if baseline not in (system.name for system in wanted):
            raise UnknownSystemError(f"--baseline is {baseline!r}; expected one of the systems: {', '.join(names)}")
        if bi_encoder is None and any(not system.is_served for system in wanted):
            raise UnknownSystemError(f"system {BI_ENCODER} needs a model; expected --bi-encoder FOLDER or Hub id")
        judged_by = parse_measures(measures.split(","))
        check_depth(judged_by, top_k)
        judged = [load_dataset(dataset, split) for dataset in datasets]
        with connected(address, timeout) as client:
            report = compare_all(
                client,
                judged,
                wanted,
                judged_by,
                baseline=baseline,
                top_k=top_k,
                bi_encoder=_model(bi_encoder) if bi_encoder else None,
                store=store,
                repository=repository,
                runs=runs,
            )
    except (
        ArtifactError, BuildError, CollectionError, DatasetError, MeasureError, OSError, TokenIndexError, TridexError,
        UnknownSystemError,
    ) as error:  # fmt: skip
        fail(str(error), error)
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if page:
        from .page import write_page

        try:
            write_page(page, report)
        except OSError as error:
            fail(f"the page cannot be written: {error}", error)


def _show(report: Report) -> None:
    """Prints the tables of each collection, and those of their averages."""
    from .table import cost, notes, quality, summary

    tables = [(judged.name, judged.rows) for judged in report.collections]
    if len(tables) > 1:
        tables.append((f"average of {len(tables)} collections", report.average))
    for title, rows in tables:
        print_line(title)
        print_table(*quality(rows, report))
        print_table(*cost(rows))
    for line in (summary(report), *notes(report)):
        print_line(line)


def _model(name: str) -> str:
    if name != DEFAULT_BI_ENCODER:
        return name
    from tridex.export.default_checkpoint import backbone_dir

    return str(backbone_dir())
