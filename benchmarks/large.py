"""MS MARCO's size on one GPU: 8,841,823 passages, 601 million tokens of synthetic codes, searched exactly.

    python -m benchmarks.large                       all codecs, some five minutes; figures to benchmarks/results/
    python -m benchmarks.large --codecs residual2 --batches 1 8 --seconds 2    half a minute
    python -m benchmarks.large --documents 1000000   smaller, under a minute once the kernels are compiled; printed only

Scores are of random tokens: what is measured is time, which does not depend on them but through how often a document
beats those before it. Beside it stands what PLAID, which is approximate, published for one query at a time on a GPU
(Santhanam et al., PLAID, 2022, table 3).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from rich.console import Console

from tridex import kernels
from tridex.kernels import Codec

from . import maxsim_corpus as data
from . import roofline
from .maxsim import installed
from .maxsim_corpus import POOL_TOKENS, Shape
from .publishing import device_name, publish
from .timing import percentiles, side_by_side

DOCUMENTS = 8_841_823
MEAN_TOKENS = 68
CODECS = (Codec.FLOAT8, Codec.INT8, Codec.RESIDUAL2)
BATCHES = (1, 32)

PLAID_MS = {10: 11.5, 100: 20.2, 1000: 38.4}
"""A query, by how many results are asked for."""

AIMS_MS = {
    (Codec.FLOAT8, 1): 21,
    (Codec.INT8, 1): 22,
    (Codec.RESIDUAL2, 1): 24,
    (Codec.FLOAT8, 32): 6.5,
    (Codec.INT8, 32): 8.5,
}
"""A query of all documents, of a batch, on an H200."""

Row = dict[str, Any]


def measure(
    codec: Codec,
    documents: int,
    batches: Sequence[int],
    device: torch.device,
    ceiling: roofline.Roofline,
    console: Console,
    seconds: float,
) -> Iterator[Row]:
    """A row for each batch and top_k. Those of a batch take turns for so many seconds."""
    shape = Shape("MS MARCO passages", documents, MEAN_TOKENS, ragged=True)
    pool = data.pool(codec, device, min(POOL_TOKENS, MEAN_TOKENS * documents))
    segment = data.corpus(shape, [pool], float("inf")).segments[codec]
    kernels.warm_up(device, data.DIM, [codec])
    for batch in batches:
        queries = data.queries(batch, device)
        calls = [partial(kernels.search, queries, segment, top_k) for top_k in PLAID_MS]
        read, flops = kernels.search_bytes(segment), kernels.search_flops(segment, batch * data.QUERY_TOKENS)
        for top_k, times in zip(PLAID_MS, side_by_side(calls, device, seconds), strict=True):
            ms = percentiles(times)
            percent = 100_000 * ceiling.seconds(codec, read, flops) / ms["p50"]
            console.print(f"{codec.value}, {batch} queries, top {top_k}: {ms['p50'] / batch:.2f} ms a query")
            yield {
                "codec": codec.value,
                "documents": segment.documents,
                "tokens": segment.tokens,
                "batch": batch,
                "top_k": top_k,
                "ms": ms,
                "roofline_percent": percent,
                "aim_ms": AIMS_MS.get((codec, batch)) if documents == DOCUMENTS else None,
                "plaid_ms": PLAID_MS[top_k],
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--codecs", nargs="+", type=Codec, default=CODECS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="queries of a search")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a batch")
    arguments = parser.parse_args()
    documents = arguments.documents
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and documents == DOCUMENTS:
        parser.error(
            "torch finds no CUDA device; expected one with 100 GB of memory, or 40 for residual2 alone, or fewer "
            "--documents"
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # Which kernels serve.
    console = Console()
    ceiling = roofline.measure(device)
    console.print(f"{ceiling}")
    for codec in arguments.codecs:
        rows = list(measure(codec, documents, arguments.batches, device, ceiling, console, arguments.seconds))
        console.print(table(rows), soft_wrap=True)
        if documents == DOCUMENTS:
            name = f"{device_name()}-large-{codec.value}"
            publish(name, {"rows": rows}, table(rows), installed(), section="Kernels")
        torch.cuda.empty_cache()


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    head = (
        "| codec | queries | top k | ms a query (p20 to p80) | of roofline | aim, ms | PLAID, approximate, ms |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    lines = [
        f"| {row['codec']} | {row['batch']} | {row['top_k']} | {row['ms']['p50'] / row['batch']:.2f} "
        f"({row['ms']['p20'] / row['batch']:.2f} to {row['ms']['p80'] / row['batch']:.2f}) | "
        f"{row['roofline_percent']:.0f} % | {row['aim_ms'] or ''} | {row['plaid_ms']} |"
        for row in rows
    ]
    sizes = f"{rows[0]['documents']:,} documents, {rows[0]['tokens']:,} tokens"
    return "\n".join([f"**MS MARCO's size**, {sizes}:\n", head, *lines])


if __name__ == "__main__":
    main()
