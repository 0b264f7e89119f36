"""The command line's `evaluate`. Light to import: what measures is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tridex.client.cli.connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected
from tridex.client.cli.documents import Codec
from tridex.common.terminal.exits import failing
from tridex.common.terminal.output import print_json, print_line, print_table

from .options import MEASURES, TOP_K, Measures, Split, TopK


def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(help="A judged collection: a folder in BEIR's layout, or ir_datasets:NAME.", show_default=False),
    ],
    collection: Annotated[
        str | None, typer.Option(help="The served collection; the dataset's name where left out.")
    ] = None,
    split: Split = None,
    measures: Measures = MEASURES,
    top_k: TopK = TOP_K,
    codec: Codec = None,
    run: Annotated[Path | None, typer.Option(help="A file for the ranking, in TREC's format.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Measure a served collection: index the corpus if it is missing, ask every judged query, report.

    A query without hits counts with 0. Latency is that of one client, from the text to the ids.
    """
    from tridex.evaluation.loading import load_dataset
    from tridex.evaluation.measures import check_depth, parse_measures
    from tridex.evaluation.measures import evaluate as measure
    from tridex.evaluation.retrieval import index, retrieve, served_retriever

    with failing():
        wanted = parse_measures(measures.split(","))
        check_depth(wanted, top_k)
        data = load_dataset(dataset, split)
        name = collection or data.name
        with connected(address, timeout) as client:
            index(client, name, data, codec)
            retrieval = retrieve({name: served_retriever(client, name, top_k=top_k)}, data)[name]
            described = client.describe_collection(name)
            if run:
                retrieval.write(run, name)
    means = measure(data.qrels, retrieval.run, wanted).means
    latency = retrieval.percentiles()
    per_document = described.device_bytes / max(described.count, 1)
    if as_json:
        facts = {"collection": name, "split": data.split, "queries": len(data.queries)}
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
        f"{len(data.queries):,} judged queries{f' ({data.split})' if data.split else ''} over "
        f"{described.count:,} documents in {name} ({described.codec}), {described.device_bytes / 1e6:,.1f} MB on the "
        "device" + (f"; ranking in {run}" if run else "")
    )
