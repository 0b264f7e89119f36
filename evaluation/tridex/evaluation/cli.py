"""The command line's `evaluate`. Light to import: what measures waits until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tridex.client.cli.connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected, fail
from tridex.client.cli.output import print_json, print_line, print_table


def evaluate(
    folder: Annotated[Path, typer.Argument(help="A judged collection in BEIR's layout.", show_default=False)],
    collection: Annotated[
        str | None, typer.Option(help="The served collection; the folder's name where left out.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which queries: the name of a file in qrels/.")] = "test",
    measures: Annotated[str, typer.Option(help="Names of ir_measures, with commas between.")] = (
        "nDCG@10,RR@10,R@10,R@100"
    ),
    top_k: Annotated[int, typer.Option(help="Documents asked for.")] = 100,
    codec: Annotated[str | None, typer.Option(help="How a collection made by this command stores embeddings.")] = None,
    run: Annotated[Path | None, typer.Option(help="A file for the ranking, in TREC's format.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Measure a served collection: indexes the corpus if it is not there, asks every judged query, reports.

    A query without hits counts with 0. Latency is one caller's, from the text to the ids.
    """
    from .dataset import DatasetError, load_dataset
    from .measures import MeasureError, parse_measures
    from .measures import evaluate as measure
    from .retrieval import index, retrieve

    try:
        wanted = parse_measures(measures.split(","))
        dataset = load_dataset(folder, split)
        name = collection or dataset.name
        with connected(address, timeout) as client:
            index(client, name, dataset, codec)
            retrieval = retrieve(client, name, dataset, top_k)
            described = client.describe_collection(name)
    except (DatasetError, MeasureError) as error:
        fail(str(error), error)
    if run:
        retrieval.write(run, name)
    means = measure(dataset.qrels, retrieval.run, wanted).means
    latency = retrieval.percentiles()
    if as_json:
        facts = {"collection": name, "split": split, "queries": len(dataset.queries), "documents": described.count}
        print_json({**facts, "codec": described.codec, **means, **latency})
        return
    print_table(("measure", "value"), [(name, float(value)) for name, value in {**means, **latency}.items()])
    print_line(
        f"{len(dataset.queries):,} judged queries ({split}) over {described.count:,} documents in {name} "
        f"({described.codec})" + (f"; ranking in {run}" if run else "")
    )
