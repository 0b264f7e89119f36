"""The command line's `compare`. Light to import: what measures is imported when it runs."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tridex.client.cli.connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected
from tridex.common.terminal.exits import failing
from tridex.common.terminal.output import print_json, print_line, print_table

from .options import MEASURES, TOP_K, Measures, Split, TopK

if TYPE_CHECKING:
    from tridex.evaluation.report import Report
    from tridex.evaluation.retrieval import LocalSystem

_DEFAULT_BI_ENCODER = "default"


def compare(
    datasets: Annotated[
        list[str],
        typer.Argument(help="Judged collections: folders in BEIR's layout, or ir_datasets:NAME.", show_default=False),
    ],
    systems: Annotated[
        str | None,
        typer.Option(
            help="Systems, separated by commas: bm25, bi-encoder, a codec, and a codec with +pool2, +candidates, "
            "+rerank or +hybrid. Where left out: all of them with --store, otherwise those that need nothing built."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The system that the others are tested against; float16, or the first codec, if left out."),
    ] = None,
    split: Split = None,
    measures: Measures = MEASURES,
    top_k: TopK = TOP_K,
    bi_encoder: Annotated[
        str,
        typer.Option(
            help="The bi-encoder's folder or Hub id, or 'default' for the encoder behind the default checkpoint."
        ),
    ] = _DEFAULT_BI_ENCODER,
    store: Annotated[
        Path | None,
        typer.Option(help="The folder of the server's collections, to build those that are missing."),
    ] = None,
    repository: Annotated[Path, typer.Option(help="The server's model repository, for building.")] = Path(
        "model_repository"
    ),
    device: Annotated[
        str,
        typer.Option(
            help="What encodes for building, and the bi-encoder's texts: cpu, cuda, cuda:1 or auto, which is the first "
            "GPU where it can be used, and the CPU otherwise."
        ),
    ] = "auto",
    keep: Annotated[
        Path | None,
        typer.Option(help="A folder for the bi-encoder's vectors; what is built stays, too, for a next comparison."),
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="A folder for the rankings, in TREC's format.")] = None,
    page: Annotated[Path | None, typer.Option(help="A file for the HTML page, with plots.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Compare systems on the same judged queries: BM25, a bi-encoder, every codec, pooled tokens, candidates.

    All but the bi-encoder are asked through the server. A query without hits counts with 0. Documents are encoded only
    where the server does not hold their token embeddings, and what is built is dropped at the end.
    """
    from tridex.common.device import resolve_device
    from tridex.encoding import load_cuda_provider
    from tridex.evaluation.comparison import compare_all, systems_at_hand
    from tridex.evaluation.loading import load_dataset
    from tridex.evaluation.measures import check_depth, parse_measures
    from tridex.evaluation.page import write_page
    from tridex.evaluation.strategies import BI_ENCODER
    from tridex.evaluation.systems import DEFAULT_SYSTEMS, choose_baseline, parse_systems

    with failing(), tempfile.TemporaryDirectory() as folder:
        chosen_device = resolve_device(device, load=load_cuda_provider)
        wanted = parse_systems(systems.split(",") if systems else DEFAULT_SYSTEMS)
        choose_baseline(wanted, baseline)
        chosen = parse_measures(measures.split(","))
        check_depth(chosen, top_k)
        loaded = [load_dataset(dataset, split) for dataset in datasets]
        with connected(address, timeout) as client:
            if not (systems or store):
                wanted = systems_at_hand(client, loaded, wanted)
            local = {}
            if any(not system.is_served for system in wanted):
                local[BI_ENCODER] = partial(_bi_encoder, bi_encoder, keep or Path(folder), chosen_device)
            report = compare_all(
                client,
                loaded,
                wanted,
                chosen,
                baseline=choose_baseline(wanted, baseline),
                top_k=top_k,
                local=local,
                store=store,
                repository=repository,
                runs=runs,
                keep=keep is not None,
                device=chosen_device,
            )
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report)
    if page:
        with failing():
            write_page(page, report)


def _show(report: Report) -> None:
    """Prints the tables of each collection, and those of their averages."""
    from tridex.evaluation.table import cost, notes, quality, summary

    tables = [(one.name, one.rows) for one in report.collections]
    if len(tables) > 1:
        tables.append((f"average of {len(tables)} collections", report.average))
    for title, rows in tables:
        print_line(title)
        print_table(*quality(rows, report))
        print_table(*cost(rows))
    for line in (summary(report), *notes(report)):
        print_line(line)


def _bi_encoder(model: str, cache: Path, device: str) -> LocalSystem:
    from tridex.evaluation.bi_encoder import BiEncoder
    from tridex.export import backbone_dir

    return BiEncoder(str(backbone_dir()) if model == _DEFAULT_BI_ENCODER else model, cache, device)
