"""Throughput and latency of the served system under load, and where the time goes.

perf_analyzer sends searches with real query text, each concurrency in turn, to a server over the standard library's
documentation. The server's own counters, read before and after, split the time by stage.

    python -m benchmarks.serving
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown

from tridex import kernels
from tridex.client import Client, ModelStatistics
from tridex.encoding import OnnxEncoder, latest_version_dir, load_artifact
from tridex.index import Follower, Store

from . import perf_analyzer
from .environment import COLLECTION, publish, questions, served_stdlib

CONCURRENCIES = (1, 4, 16, 64)
STAGES = ("tokenizer", "encoder", "maxsim")
TOP_K = 10

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--seconds", type=float, default=4.0, help="of one window; a row takes two or three")
    parser.add_argument("--queries", type=Path, help="a BEIR queries.jsonl, in place of sentences of the corpus")
    arguments = parser.parse_args()
    binary = perf_analyzer.fetch(arguments.data / "perf_analyzer")
    with served_stdlib(arguments.repository, arguments.data) as (server, client, rows):
        if arguments.queries:
            texts = [json.loads(line)["text"] for line in arguments.queries.read_text().splitlines()]
        else:
            texts = questions(rows, 500)
        encoder = client.server_info().encoder
        alone = direct(arguments.repository, server.store, texts)
        measured = []
        for with_text in (False, True):
            for concurrency in CONCURRENCIES:
                with console.status(f"{concurrency} concurrent callers, {'with' if with_text else 'without'} texts"):
                    measured.append(measure(client, binary, server.address, texts, concurrency, with_text, arguments))
    words = "\n\n".join((table(measured), summary(measured, alone)))
    console.print(Markdown(words))
    results = {
        "encoder": encoder["source"],
        "precision": encoder["precision"],
        "documents": len(rows),
        "top_k": TOP_K,
        "direct": alone,
        "runs": measured,
    }
    publish("serving", results, words)


def summary(measured: Sequence[dict[str, Any]], alone: dict[str, float]) -> str:
    """The two figures that the design is held to: what serving adds, and what batching gains."""
    bare = {row["concurrency"]: row for row in measured if not row["with_text"]}
    work = alone["encode_ms"] + alone["score_ms"]
    mean_ms = 1000 / bare[1]["requests_per_s"]
    computed = sum(bare[1]["stages"][model]["compute_ms"] for model in ("encoder", "maxsim"))
    return (
        "One caller, what the server adds beyond encoding and scoring: by its own counters "
        f"{mean_ms - computed:.1f} ms (mean latency {mean_ms:.1f} ms, encoder and maxsim compute {computed:.1f}); "
        "against the same work in one process without a server "
        f"{bare[1]['p50_ms'] - work:.1f} ms (p50 {bare[1]['p50_ms']:.1f} ms; encode {alone['encode_ms']:.1f}, "
        f"score {alone['score_ms']:.1f}), which includes that each stage's process finds its caches cold. 16 callers: "
        f"{bare[16]['requests_per_s'] / bare[1]['requests_per_s']:.2f} times the throughput of one."
    )


def measure(
    client: Client,
    binary: Path,
    address: str,
    texts: list[str],
    concurrency: int,
    with_text: bool,
    arguments: argparse.Namespace,
) -> dict[str, object]:
    """One row: load at this concurrency, and each stage's mean milliseconds and batch size during it."""
    inputs = [{"QUERY": [text]} for text in texts]
    parameters: dict[str, str | int | bool] = {
        "collection": COLLECTION,
        "top_k": TOP_K,
        "with_text": with_text,
        "with_metadata": with_text,
    }

    before = statistics(client)
    load = perf_analyzer.run(
        binary, address, "search", inputs, parameters, concurrency, arguments.seconds, arguments.data
    )
    after = statistics(client)
    stages = {model: stage(before[model], after[model]) for model in STAGES}
    return {**asdict(load), "with_text": with_text, "stages": stages}


def statistics(client: Client) -> dict[str, ModelStatistics]:
    return {stage.model: stage for stage in client.statistics()}


def stage(before: ModelStatistics, after: ModelStatistics) -> dict[str, float]:
    """What one model did between two readings."""
    requests = after.requests - before.requests

    def mean_ms(read: Callable[[ModelStatistics], float]) -> float:
        return (after.requests * read(after) - before.requests * read(before)) / requests / 1000

    return {
        "queue_ms": mean_ms(lambda s: s.mean_queue_us),
        "compute_ms": mean_ms(lambda s: s.mean_compute_us),
        "requests_per_batch": requests / (after.executions - before.executions),
    }


def direct(repository: Path, store: Path, texts: list[str]) -> dict[str, float]:
    """Median milliseconds of the same work in this process, without a server: what encoding and scoring cost."""
    artifact = load_artifact(latest_version_dir(repository / "encoder"))
    tokenizer = artifact.tokenizer()
    encoder = OnnxEncoder(artifact.model_path, threads=os.cpu_count() or 1)
    view = Follower(Store(store), COLLECTION, torch.device("cpu")).view
    kernels.warm_up(torch.device("cpu"), artifact.manifest.dim)
    times: dict[str, list[float]] = {"tokenise_ms": [], "encode_ms": [], "score_ms": []}
    for text in texts:
        marks = [time.perf_counter()]
        tokens = tokenizer.queries([text])
        marks.append(time.perf_counter())
        embeddings = torch.from_numpy(encoder.encode(tokens))
        marks.append(time.perf_counter())
        view.search(embeddings, torch.from_numpy(tokens.embedding_mask != 0), TOP_K)
        marks.append(time.perf_counter())
        for name, begin, end in zip(times, marks, marks[1:], strict=False):
            times[name].append(1000 * (end - begin))
    return {name: median(values) for name, values in times.items()}


def table(measured: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = ["callers", "texts", "searches/s", "p50 ms", "p95 ms", "p99 ms"]
    head += [f"{model}: queue + compute ms (batch)" for model in STAGES]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for row in measured:
        cells = [str(row["concurrency"]), "yes" if row["with_text"] else "no", f"{row['requests_per_s']:.1f}"]
        cells += [f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")]
        cells += [
            f"{s['queue_ms']:.1f} + {s['compute_ms']:.1f} ({s['requests_per_batch']:.1f})"
            for s in (row["stages"][model] for model in STAGES)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
