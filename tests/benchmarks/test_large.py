"""The benchmark of MS MARCO's size, on a few documents and a CPU."""

import torch
from rich.console import Console

from benchmarks import large
from benchmarks.roofline import Roofline

CEILING = Roofline(1e11, {"float32": 1e12, "bfloat16": 2e12, "int8": 4e12})


def test_every_codec_batch_and_top_k_stands_beside_plaid() -> None:
    device, console = torch.device("cpu"), Console(quiet=True)
    rows = [
        row
        for codec in large.CODECS
        for row in large.measure(codec, 40, large.BATCHES, device, CEILING, console, seconds=0)
    ]
    assert [(row["codec"], row["batch"], row["top_k"]) for row in rows] == [
        (codec.value, batch, top_k) for codec in large.CODECS for batch in large.BATCHES for top_k in (10, 100, 1000)
    ]
    assert {row["documents"] for row in rows} == {40}
    words = large.table(rows)
    assert words.count("\n| int8 | 32 | ") == 3
    assert words.count(" |  | 38.4 |") == 6, "an aim is one of all documents"


def test_the_documents_are_as_long_as_ms_marcos() -> None:
    lengths = large.Shape("", large.DOCUMENTS, large.MEAN_TOKENS, ragged=True).lengths(float("inf"))
    assert len(lengths) == large.DOCUMENTS
    assert abs(lengths.sum() / 601e6 - 1) < 0.005
