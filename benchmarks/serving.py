"""Throughput and latency of the served system under load, and where the time goes.

perf_analyzer sends searches with real query text, each concurrency in turn, to a server over the standard library's
documentation, or another corpus. The server's own counters, read before and after, split the time by stage.

    python -m benchmarks.serving
    python -m benchmarks.serving --corpus <BEIR folder>
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.markdown import Markdown

from tridex import kernels
from tridex.client import CodecName
from tridex.client.channel import DEFAULT_TIMEOUT_S
from tridex.common.device import CPU
from tridex.encoding import create_encoder, latest_version_dir, load_artifact
from tridex.index import Extra, Follower, Store
from tridex.kernels import Codec
from tridex.serving.metrics.stages import SEARCH_STAGES, StageTotal, read_stages
from tridex.serving.server import TritonServer

from . import perf_analyzer, trace
from .environment import CODECS, Corpus, chosen, served
from .publishing import filed, publish

CONCURRENCIES = (1, 4, 16, 64)
GPU_CONCURRENCIES = (1, 16, 64, 256)
GPU_CONCURRENCIES_WITH_TEXTS = (64,)
"""Texts are the host's work on any machine, and `make gpu` has minutes."""
TOP_K = 10

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--seconds", type=float, default=4.0, help="per window; a row takes two or three windows")
    parser.add_argument("--corpus", type=Path, help="a BEIR folder, in place of the standard library's documentation")
    arguments = parser.parse_args()
    corpus = chosen(arguments.corpus, arguments.data)
    binary = perf_analyzer.fetch(arguments.data / "perf_analyzer")
    trace_file = (arguments.data / "trace.json").resolve()
    for earlier in trace_file.parent.glob(f"{trace_file.name}.*"):
        earlier.unlink()
    with served(corpus, arguments.repository, arguments.data, trace.arguments(trace_file)) as (server, client):
        encoder, device = client.encoder(), server.device
        with console.status("one client, traced"):
            one_client = measure(binary, server, corpus, CODECS[0], 1, False, arguments)
    # No server holds a GPU's memory meanwhile.
    alone = direct(arguments.repository, server.store, corpus, device)
    measured = []
    with served(corpus, arguments.repository, arguments.data) as (server, _):
        for codec, with_text in ((CODECS[0], False), (CODECS[0], True), (CODECS[1], False)):
            for concurrency in concurrencies(device, with_text):
                with console.status(f"{codec}, {concurrency} clients, {'with' if with_text else 'without'} texts"):
                    measured.append(measure(binary, server, corpus, codec, concurrency, with_text, arguments))
    added = overhead(trace.read(trace_file, "search"), one_client["stages"], alone)
    of_stages = "Means of a search's stages in ms, and of the searches that were scored together:"
    about = f"{corpus.size}:"
    markdown = "\n\n".join((about, loads_table(measured), of_stages, stages_table(measured), summary(measured, added)))
    console.print(Markdown(markdown))
    results = {
        "encoder": encoder["source"],
        "precision": encoder["precision"],
        "corpus": corpus.name,
        "documents": len(corpus.documents),
        "top_k": TOP_K,
        "direct": alone,
        "one_client": added,
        "runs": measured,
    }
    publish(filed("serving", device, corpus.name), results, markdown, section="Serving")


def concurrencies(device: str, with_text: bool) -> tuple[int, ...]:
    """Numbers of clients, each a row."""
    if device == CPU:
        return CONCURRENCIES
    return GPU_CONCURRENCIES_WITH_TEXTS if with_text else GPU_CONCURRENCIES


def overhead(
    traced: Sequence[trace.TracedRequest], stages: Mapping[str, Mapping[str, float]], alone: Mapping[str, float]
) -> dict[str, float]:
    """Mean milliseconds of a lone search in the server, and of what it spends beyond encoding and scoring."""
    total = fmean(request.total_ms for request in traced)
    return {
        "total_ms": total,
        "triton_before_ms": fmean(request.before_ms for request in traced),
        "triton_after_ms": fmean(request.after_ms for request in traced),
        **{f"{stage}_ms": stages[stage]["ms"] for stage in SEARCH_STAGES},
        "beyond_encoding_and_scoring_ms": total - sum(stages[name]["ms"] for name in ("encode", "score", "fetch")),
        "in_one_process_ms": sum(alone.values()),
    }


def summary(measured: Sequence[dict[str, Any]], added: Mapping[str, float]) -> str:
    """The two figures that the design is judged by: what serving adds, and what batching gains."""
    rates = {(row["codec"], row["concurrency"]): row.get("requests_per_s") for row in measured if not row["with_text"]}
    pairs = {codec: (rates[codec, 16], rates[codec, 1]) for codec in CODECS}
    gains = ", ".join(f"{many / one:.2f} ({codec})" for codec, (many, one) in pairs.items() if many and one)
    return (
        f"One client, {CODECS[0]}, means: {added['total_ms']:.1f} ms from a request's arrival to its answer's "
        f"departure, by the server's own trace, of which the server adds {added['beyond_encoding_and_scoring_ms']:.1f} "
        f"ms to encoding ({added['encode_ms']:.1f}) and scoring ({added['score_ms']:.1f}): Triton Inference Server "
        f"{added['triton_before_ms']:.1f} before the model has the request and {added['triton_after_ms']:.1f} behind "
        f"its answer, tokenising {added['tokenise_ms']:.1f}, waiting {added['wait_ms']:.1f}, handing over "
        f"{added['answer_ms']:.1f}. Tokenising, encoding and scoring the same queries in one process, one by one, take "
        f"{added['in_one_process_ms']:.1f} ms. Throughput of 16 clients over that of one: "
        f"{gains or 'not known, as requests were refused'}."
    )


def measure(
    binary: Path,
    server: TritonServer,
    corpus: Corpus,
    codec: CodecName,
    concurrency: int,
    with_text: bool,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """One row: load at this concurrency, and each stage's mean milliseconds and batch size during it."""
    inputs = [{"QUERY": [text]} for text in corpus.questions]
    parameters: dict[str, str | int | bool] = {
        "collection": corpus.collection(codec),
        "top_k": TOP_K,
        "with_text": with_text,
        "with_metadata": with_text,
        # As our clients send it: a search without a timeout is refused where it would wait for more than a second.
        "timeout": int(1e6 * DEFAULT_TIMEOUT_S),
    }
    row = {"codec": codec, "concurrency": concurrency, "with_text": with_text}
    metrics_url = f"http://{server.host}:{server.ports['metrics']}/metrics"
    before = settled(metrics_url)
    try:
        load = perf_analyzer.run(
            binary,
            server.address,
            "search",
            inputs,
            parameters,
            concurrency,
            arguments.seconds,
            arguments.data,
            [perf_analyzer.launcher_header()],
        )
    except perf_analyzer.RefusedError as error:
        return {**row, "refused": str(error)}
    after = settled(metrics_url)
    return {**row, **asdict(load), "stages": {name: stage(after[name].since(before[name])) for name in SEARCH_STAGES}}


def settled(metrics_url: str) -> dict[str, StageTotal]:
    """Each stage's total once the server is idle: a load that ends leaves requests that are still in progress."""
    earlier, now = None, read_stages(metrics_url)
    while now != earlier:
        time.sleep(0.5)
        earlier, now = now, read_stages(metrics_url)
    return now


def stage(total: StageTotal) -> dict[str, float]:
    """Means per search. Waiting has no batches."""
    together = {"requests_per_batch": total.requests / total.batches} if total.batches else {}
    return {"ms": 1000 * total.seconds / total.requests, **together}


def direct(repository: Path, store: Path, corpus: Corpus, device_name: str) -> dict[str, float]:
    """Mean milliseconds of the same work in this process, without a server: what encoding and scoring cost."""
    artifact = load_artifact(latest_version_dir(repository / "encoder"))
    tokenizer = artifact.tokenizer()
    device = torch.device(device_name)
    encoder = create_encoder(artifact, device_name, threads=os.cpu_count() or 1)
    follower = Follower(Store(store), corpus.collection(CODECS[0]), device)
    for extra in Extra:  # As the server makes them behind its start.
        follower.make(extra)
    kernels.warm_up(device, artifact.manifest.dim, [Codec(CODECS[0])])
    times: dict[str, list[float]] = {"tokenise_ms": [], "encode_ms": [], "score_ms": []}
    for text in corpus.questions:
        marks = [time.perf_counter()]
        tokens = tokenizer.queries([text])
        marks.append(time.perf_counter())
        embeddings = torch.from_numpy(encoder.encode(tokens)).to(device)
        marks.append(time.perf_counter())
        follower.snapshot.search(embeddings, torch.from_numpy(tokens.embedding_mask != 0).to(device), TOP_K)
        marks.append(time.perf_counter())
        for taken, begin, end in zip(times.values(), marks, marks[1:], strict=False):
            taken.append(1000 * (end - begin))
    return {name: fmean(values) for name, values in times.items()}


def loads_table(measured: Sequence[dict[str, Any]]) -> str:
    """Throughput and latency as Markdown; a row whose load was refused has the reason in place of figures."""
    lines = ["| codec | clients | texts | searches/s | p50 ms | p95 ms | p99 ms |", "| --- " * 7 + "|"]
    for row in measured:
        if "refused" in row:
            figures = [f"refused: {row['refused']}", "-", "-", "-"]
        else:
            figures = [f"{row[name]:.1f}" for name in ("requests_per_s", "p50_ms", "p95_ms", "p99_ms")]
        lines.append("| " + " | ".join((*first_cells(row), *figures)) + " |")
    return "\n".join(lines)


def stages_table(measured: Sequence[dict[str, Any]]) -> str:
    """Where the time goes, as Markdown: each stage's milliseconds, and the requests that were scored together."""
    head = ["codec", "clients", "texts", *SEARCH_STAGES, "batch"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for row in measured:
        if "refused" in row:
            continue
        stages = [f"{row['stages'][name]['ms']:.1f}" for name in SEARCH_STAGES]
        batch = f"{row['stages']['score']['requests_per_batch']:.1f}"
        lines.append("| " + " | ".join((*first_cells(row), *stages, batch)) + " |")
    return "\n".join(lines)


def first_cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["codec"], str(row["concurrency"]), "yes" if row["with_text"] else "no"


if __name__ == "__main__":
    main()
