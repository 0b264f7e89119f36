"""The command line's `evaluate`. Light to import: what measures waits until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tridex.client.cli.connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected
from tridex.client.cli.documents import Codec
from tridex.common.terminal.exits import fail
from tridex.common.terminal.output import print_json, print_line, print_table

Split = Annotated[
    str | None,
    typer.Option(help="Which queries: the name of a file in qrels/; test where left out.", show_default=False),
]


def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(help="A judged collection: a folder in BEIR's layout, or ir_datasets:NAME.", show_default=False),
    ],
    collection: Annotated[
        str | None, typer.Option(help="The served collection; the data set's name where left out.")
    ] = None,
    split: Split = None,
    measures: Annotated[str, typer.Option(help="Names of ir_measures, with commas between.")] = (
        "nDCG@10,RR@10,R@10,R@100"
    ),
    top_k: Annotated[int, typer.Option(help="Documents asked for.")] = 100,
    codec: Codec = None,
    run: Annotated[Path | None, typer.Option(help="A file for the ranking, in TREC's format.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Measure a served collection: indexes the corpus if it is not there, asks every judged query, reports.

    A query without hits counts with 0. Latency is one caller's, from the text to the ids.
    """
    from .dataset import DatasetError, load_dataset
    from .measures import MeasureError, check_depth, parse_measures
    from .measures import evaluate as measure
    from .retrieval import index, retrieve, served

    try:
        wanted = parse_measures(measures.split(","))
        check_depth(wanted, top_k)
        judged = load_dataset(dataset, split)
        name = collection or judged.name
        with connected(address, timeout) as client:
            index(client, name, judged, codec)
            retrieval = retrieve({name: served(client, name, top_k=top_k)}, judged)[name]
            described = client.describe_collection(name)
            if run:
                retrieval.write(run, name)
    except (DatasetError, MeasureError, OSError) as error:
        fail(str(error), error)
    means = measure(judged.qrels, retrieval.run, wanted).means
    latency = retrieval.percentiles()
    per_document = described.device_bytes / max(described.count, 1)
    if as_json:
        facts = {"collection": name, "split": judged.split, "queries": len(judged.queries)}
        size = {
            "documents": described.count,
            "device_bytes": described.device_bytes,
            "bytes_per_document": per_document,
        }
        print_json({**facts, **size, "codec": described.codec, **means, **latency})
        return
    values = {**means, **latency, "kB/document": per_document / 1000}
    print_table(("measure", "value"), [(name, float(value)) for name, value in values.items()])
    print_line(
        f"{len(judged.queries):,} judged queries{f' ({judged.split})' if judged.split else ''} over "
        f"{described.count:,} documents in {name} ({described.codec}), {described.device_bytes / 1e6:,.1f} MB on the "
        "device" + (f"; ranking in {run}" if run else "")
    )
