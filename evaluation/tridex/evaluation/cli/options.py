"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Split = Annotated[
    str | None,
    typer.Option(help="Which queries: the name of a file in qrels/; test where left out.", show_default=False),
]
Measures = Annotated[str, typer.Option(help="Names of ir_measures, separated by commas; `compare` plots the first.")]
TopK = Annotated[int, typer.Option(help="Documents asked for.")]

MEASURES = "nDCG@10,RR@10,R@10,R@100"
TOP_K = 100
