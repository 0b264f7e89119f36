"""The command line's `train`. Light to import: torch is imported when it runs."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from tridex.client.cli.connection import Json
from tridex.common.terminal.exits import failing
from tridex.common.terminal.output import print_json, print_line, print_table

_SHOWN = ("ndcg@10", "mrr@10", "recall@10")


def train(
    model: Annotated[
        str,
        typer.Argument(help="A ColBERT checkpoint or a plain encoder: a folder, a Hub id, `default` or `untrained`."),
    ],
    data: Annotated[
        list[Path],
        typer.Argument(help="Rows of query, positive, negative(s): .jsonl[.gz] or .parquet; a batch is of one file."),
    ],
    output: Annotated[Path, typer.Option(help="A new folder.")] = Path("checkpoint"),
    tuning: Annotated[str, typer.Option(help="full, lora (merged at the end) or projection.")] = "full",
    epochs: Annotated[float, typer.Option(min=0)] = 1.0,
    max_steps: Annotated[int, typer.Option(help="Ends earlier; -1 for no limit.")] = -1,
    batch_size: Annotated[int, typer.Option(min=2, help="The more, the more negatives a query has.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="The backbone's.")] = 2e-5,
    projection_learning_rate: Annotated[float, typer.Option(help="The projection's.")] = 1e-4,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="The share of queries measured on.")] = 0.1,
    bf16: Annotated[bool, typer.Option("--bf16", help="Multiply in bfloat16.")] = False,
    seed: int = 0,
    track: Annotated[
        str,
        typer.Option(
            help="Trackers of the record, separated by commas: mlflow, wandb, clearml, tensorboard and whatever else "
            "the transformers library integrates, or none."
        ),
    ] = "mlflow",
    tracking_uri: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow's store or server.")] = (
        "sqlite:///mlflow.db"
    ),
    experiment: Annotated[str, typer.Option(help="The trackers' experiment or project.")] = "tridex",
    as_json: Json = False,
) -> None:
    """Fine-tune a ColBERT model on triplets or pairs, and measure it on queries it was not trained on."""
    from tridex.training.model import Tuning
    from tridex.training.trainer import TrainingSettings
    from tridex.training.trainer import train as run

    if tuning not in list(Tuning):
        raise typer.BadParameter(f"--tuning is {tuning!r}; expected one of: {', '.join(Tuning)}")
    started = time.perf_counter()
    with failing():
        settings = TrainingSettings(
            model, tuple(data), output, Tuning(tuning), epochs, max_steps, batch_size, learning_rate,
            projection_learning_rate, held_out=held_out, bf16=bf16, seed=seed,
            track=tuple(name.strip() for name in track.split(",")), tracking_uri=tracking_uri, experiment=experiment,
        )  # fmt: skip
        result = run(settings)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**dataclasses.asdict(result), "seconds": seconds, "output": str(output)})
        return
    if result.before and result.after:
        rows = [(name, result.before[name], result.after[name]) for name in _SHOWN]
        print_table((f"{result.held_out_queries} held-out queries", "before", "after"), rows)
    print_line(f"Trained on {result.examples:,} examples in {seconds:,.0f} s")
    if result.recorded_by:
        print_line(f"Recorded as run {output} by {', '.join(result.recorded_by)}")
    if "mlflow" in result.recorded_by:
        print_line(f"Look at it: mlflow ui --backend-store-uri {tracking_uri}")
    print_line(f"Next: tridex export {output}")
