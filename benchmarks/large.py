"""MS MARCO's size on one GPU: 8,841,823 passages, 601 million tokens of synthetic codes, searched exactly.

    python -m benchmarks.large                     all codecs, figures to benchmarks/results/
    python -m benchmarks.large --codecs residual2 --batches 1 8 --seconds 2    half a minute
    python -m benchmarks.large --documents 100000  smaller, printed only

Scores are of random tokens: what is measured is time, which does not depend on them but through how often a document
beats those before it. PLAID, which is approximate, published 11.5, 20.2 and 38.4 ms a query at k = 10, 100 and 1,000
on a GPU (Santhanam et al., PLAID, 2022, table 3).
"""

from __future__ import annotations

import argparse
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
from .maxsim_corpus import Shape
from .publishing import device_name, publish
from .timing import percentiles, side_by_side

DOCUMENTS = 8_841_823
CODECS = (Codec.FLOAT8, Codec.INT8, Codec.RESIDUAL2)
BATCHES = (1, 8, 32)
TOP_K = (10, 1000)


Row = dict[str, Any]


def measure(
    codec: Codec,
    documents: int,
    batches: Sequence[int],
    seconds: float,
    ceiling: roofline.Roofline,
    console: Console,
) -> Iterator[Row]:
    """A row for each batch and top_k."""
    shape, device = Shape("MS MARCO passages", documents, 68, ragged=True), torch.device("cuda")
    segment = data.corpus(shape, [data.pool(codec, device)], float("inf")).segments[codec]
    kernels.warm_up(device, data.DIM, [codec])
    for batch in batches:
        queries = data.queries(batch, device)
        calls = [partial(kernels.search, queries, segment, top_k) for top_k in TOP_K]
        read, flops = kernels.search_bytes(segment), kernels.search_flops(segment, batch * data.QUERY_TOKENS)
        for top_k, times in zip(TOP_K, side_by_side(calls, device, seconds), strict=True):
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
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--codecs", nargs="+", type=Codec, default=CODECS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="queries of a search")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a batch")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; expected one with 100 GB of memory, or 40 for residual2 alone")
    console = Console()
    ceiling = roofline.measure(torch.device("cuda"))
    for codec in arguments.codecs:
        rows = list(measure(codec, arguments.documents, arguments.batches, arguments.seconds, ceiling, console))
        if arguments.documents == DOCUMENTS:
            name = f"{device_name()}-large-{codec.value}"
            publish(name, {"rows": rows}, table(rows), installed(), section="Kernels")
        torch.cuda.empty_cache()


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    head = "| codec | queries | top k | ms a query (p20 to p80) | of roofline |\n| --- | --- | --- | --- | --- |"
    lines = [
        f"| {row['codec']} | {row['batch']} | {row['top_k']} | {row['ms']['p50'] / row['batch']:.2f} "
        f"({row['ms']['p20'] / row['batch']:.2f} to {row['ms']['p80'] / row['batch']:.2f}) | "
        f"{row['roofline_percent']:.0f} % |"
        for row in rows
    ]
    return "\n".join([f"**MS MARCO's size**, {rows[0]['documents']:,} documents:\n", head, *lines])


if __name__ == "__main__":
    main()
