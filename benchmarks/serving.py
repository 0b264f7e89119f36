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
from tridex.kernels import Codec

from . import perf_analyzer, trace
from .environment import CODECS, collection, questions, served_stdlib
from .publishing import publish

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
    trace_file = (arguments.data / "trace.json").resolve()
    trace_file.unlink(missing_ok=True)
    with served_stdlib(arguments.repository, arguments.data, trace.arguments(trace_file)) as (server, client, rows):
        if arguments.queries:
            texts = [json.loads(line)["text"] for line in arguments.queries.read_text().splitlines()]
        else:
            texts = questions(rows, 500)
        encoder = client.server_info().encoder
        alone = direct(arguments.repository, server.store, texts)
        with console.status("one caller, traced"), trace.on(server.address):
            measure(client, binary, server.address, texts, CODECS[0], 1, False, arguments)
        measured = []
        for codec, with_text in ((CODECS[0], False), (CODECS[0], True), (CODECS[1], False)):
            for concurrency in CONCURRENCIES:
                with console.status(f"{codec}, {concurrency} callers, {'with' if with_text else 'without'} texts"):
                    row = measure(client, binary, server.address, texts, codec, concurrency, with_text, arguments)
                    measured.append(row)
    added = overhead(trace.read(trace_file, "search"), alone)
    words = "\n\n".join((table(measured), summary(measured, added)))
    console.print(Markdown(words))
    results = {
        "encoder": encoder["source"],
        "precision": encoder["precision"],
        "documents": len(rows),
        "top_k": TOP_K,
        "direct": alone,
        "one_caller": added,
        "runs": measured,
    }
    publish("serving", results, words)


def overhead(traced: Sequence[trace.TracedRequest], alone: dict[str, float]) -> dict[str, float]:
    """Median milliseconds of a lone search in the server, and of what it spends beyond encoding and scoring."""
    working = ("encoder", "maxsim")
    total = median(request.total_ms for request in traced)
    return {
        "total_ms": total,
        "beyond_encoder_and_maxsim_ms": median(
            request.total_ms - sum(request.working_ms[model] for model in working) for request in traced
        ),
        **{f"{model}_ms": median(request.working_ms[model] for request in traced) for model in STAGES},
        "beyond_the_same_work_in_one_process_ms": total - sum(alone.values()),
    }


def summary(measured: Sequence[dict[str, Any]], added: dict[str, float]) -> str:
    """The two figures that the design is held to: what serving adds, and what batching gains."""
    rates = {(row["codec"], row["concurrency"]): row["requests_per_s"] for row in measured if not row["with_text"]}
    gains = ", ".join(f"{rates[codec, 16] / rates[codec, 1]:.2f} ({codec})" for codec in CODECS)
    return (
        f"One caller, {CODECS[0]}, medians of the server's own trace: {added['total_ms']:.1f} ms from a request's "
        f"arrival to its answer's departure, of which the server adds {added['beyond_encoder_and_maxsim_ms']:.1f} ms "
        f"to the encoder's {added['encoder_ms']:.1f} and maxsim's {added['maxsim_ms']:.1f} (tokenising, "
        f"{added['tokenizer_ms']:.1f}, counts as added). Tokenising, encoding and scoring the same queries in one "
        f"process take {added['beyond_the_same_work_in_one_process_ms']:.1f} ms less than the whole. Throughput of 16 "
        f"callers over that of one: {gains}."
    )


def measure(
    client: Client,
    binary: Path,
    address: str,
    texts: list[str],
    codec: str,
    concurrency: int,
    with_text: bool,
    arguments: argparse.Namespace,
) -> dict[str, object]:
    """One row: load at this concurrency, and each stage's mean milliseconds and batch size during it."""
    inputs = [{"QUERY": [text]} for text in texts]
    parameters: dict[str, str | int | bool] = {
        "collection": collection(codec),
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
    return {"codec": codec, **asdict(load), "with_text": with_text, "stages": stages}


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
    view = Follower(Store(store), collection(CODECS[0]), torch.device("cpu")).view
    kernels.warm_up("cpu", artifact.manifest.dim, [Codec(CODECS[0])])
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
    head = ["codec", "callers", "texts", "searches/s", "p50 ms", "p95 ms", "p99 ms"]
    head += [f"{model}: queue + compute ms (batch)" for model in STAGES]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for row in measured:
        cells = [
            row["codec"],
            str(row["concurrency"]),
            "yes" if row["with_text"] else "no",
            f"{row['requests_per_s']:.1f}",
        ]
        cells += [f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")]
        cells += [
            f"{s['queue_ms']:.1f} + {s['compute_ms']:.1f} ({s['requests_per_batch']:.1f})"
            for s in (row["stages"][model] for model in STAGES)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
