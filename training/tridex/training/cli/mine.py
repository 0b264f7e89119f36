"""The command line's `mine`. Light to import: what mines is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tridex.client.cli.connection import ADDRESS, TIMEOUT_S, Address, Timeout, connected
from tridex.common.terminal.exits import failing
from tridex.common.terminal.output import print_line


def mine(
    data: Annotated[Path, typer.Argument(help="Rows of query and positive: .jsonl[.gz] or .parquet.")],
    output: Annotated[Path, typer.Argument(help="A new .jsonl file.")],
    collection: Annotated[str, typer.Option(help="Where to search; made of the positives if it does not exist.")],
    negatives: Annotated[int, typer.Option(min=1, help="For each query.")] = 1,
    depth: Annotated[int, typer.Option(min=2, help="Hits looked at.")] = 50,
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="Of the positive's score: what is above may be relevant itself.")
    ] = 0.95,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Find hard negatives for pairs with a running server: documents that it ranks high besides the positive."""
    from tridex.training.examples import read_examples
    from tridex.training.mining import index_positives, write_examples
    from tridex.training.mining import mine as run

    with failing():
        examples = read_examples(data)
        if output.exists():
            raise FileExistsError(f"{output} exists already and is not overwritten: choose another file")
        with connected(address, timeout) as client:
            index_positives(client, collection, examples)
            written = write_examples(output, run(client, collection, examples, negatives, depth, margin))
    print_line(f"{written:,} of {len(examples):,} rows got {negatives} negatives: {output}")
    print_line(f"Next: tridex train default {output}")
