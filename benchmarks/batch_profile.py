"""One batch of searches, in this process: what the host does of it and for how long, and what the device does.

Host: tokenising, giving the encoder and the index their work, waiting for it, making the answers. Device: every kernel
and copy, by torch's profiler, whose trace can be looked at in https://ui.perfetto.dev.

    python -m benchmarks.batch_profile --device cuda
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markdown import Markdown
from torch.profiler import ProfilerActivity, profile, record_function

from tridex import kernels
from tridex.common.device import resolve_device
from tridex.encoding import Artifact, DeviceEncoder, create_encoder
from tridex.kernels import Codec
from tridex.serving.backend.query_tokens import QueryTokens
from tridex.serving.backend.service import Context, Request, as_strings
from tridex.serving.engine.explanations import Explainer
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.metrics.registry import Metrics
from tridex.serving.requests.search import SearchRequest

from .environment import build, chosen, default_artifact, no_infer, write_jsonl
from .publishing import filed, publish

BATCHES = (1, 8, 64)
ROUNDS = 30
WARM_UP_S = 3.0
"""Of each batch size: what a server makes behind its start, approximations and captured searches, is there by then."""
PROFILED = 5
"""Rounds in the trace."""
KERNELS_SHOWN = 15
CODEC = Codec.FLOAT16
STAGES = ("tokenise", "encode", "begin the search", "wait and answer")


class Batch:
    """Searches as the served model answers them, without its scheduler: a step after the other, on one thread."""

    def __init__(self, artifact: Artifact, store: Path, device: str) -> None:
        self._tokenizer = QueryTokens(artifact.tokenizer())
        self._stream = None
        if device != "cpu":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            encoder = create_encoder(artifact, device, threads=torch.get_num_threads())
        self._encode: Callable[[Sequence[Any]], list[Any]] = encoder.encode_many
        if isinstance(encoder, DeviceEncoder):
            encoder.capture(artifact.manifest.rules.query.length)
            self._encode = encoder.encode_on_device
        context = Context(artifact.directory.parents[1], device, store, no_infer, Metrics())
        explainer = Explainer(artifact.manifest, artifact.tokenizer(), encoder.encode_many)
        kernels.warm_up(device, artifact.manifest.dim, [CODEC])
        self._engine = SearchEngine(context, artifact, explainer, self._stream)

    def answer(self, texts: Sequence[str]) -> list[float]:
        """Milliseconds of each stage of a batch of searches for these texts."""
        sent = [Request({"QUERY": as_strings([text])[:, None]}, {"collection": "c"}) for text in texts]
        parsed = [SearchRequest.parse(request) for request in sent]
        marks = [time.perf_counter()]

        def stage(name: str, work: Callable[[], Any]) -> Any:
            with record_function(name):
                done = work()
            marks.append(time.perf_counter())
            return done

        rows = stage("tokenise", lambda: list(self._tokenizer.rows(list(texts))))
        embeddings = stage("encode", lambda: self._encode(rows))
        masks = [
            np.pad(row.embedding_mask, ((0, 0), (0, array.shape[1] - row.embedding_mask.shape[1])))
            for array, row in zip(embeddings, rows, strict=True)
        ]
        requests = [
            request.encoded(array, mask) for request, array, mask in zip(parsed, embeddings, masks, strict=True)
        ]
        wait = stage("begin the search", lambda: self._engine.start(requests))
        stage("wait and answer", wait)
        return [1000 * (end - begin) for begin, end in pairwise(marks)]

    def close(self) -> None:
        self._engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--corpus", type=Path, help="a BEIR folder, in place of the standard library's documentation")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    artifact = default_artifact(arguments.repository)
    corpus = chosen(arguments.corpus, arguments.data)
    texts = corpus.questions
    with TemporaryDirectory() as folder, ExitStack() as held:
        store = Path(folder) / "store"
        source = write_jsonl(Path(folder) / "corpus.jsonl", corpus.documents)
        build(source, store, "c", CODEC, artifact, create_encoder(artifact, device, threads=torch.get_num_threads()))
        batch = Batch(artifact, store, device)
        held.callback(batch.close)
        rows = [_measured(batch, texts[:count]) for count in BATCHES]
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device != "cpu" else [])]
        with profile(activities=activities) as profiler:
            for _ in range(PROFILED):
                batch.answer(texts[: max(BATCHES)])
    trace = arguments.data / "batch-trace.json"
    profiler.export_chrome_trace(str(trace))
    on_device = _on_device(profiler) if device != "cpu" else []
    text = f"{corpus.size}, {CODEC.value}:\n\n{_tables(rows, on_device)}"
    Console().print(Markdown(f"{text}\n\nThe trace: {trace}"))
    about = {"device": device, "corpus": corpus.name, "documents": len(corpus.documents)}
    results: dict[str, object] = {**about, "stages": rows, "device_ms": on_device}
    publish(filed("profile", device, corpus.name), results, text, section="Serving")


def _measured(batch: Batch, texts: Sequence[str]) -> dict[str, float]:
    """Median milliseconds of each stage."""
    until = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < until:
        batch.answer(texts)
    rounds = [batch.answer(texts) for _ in range(ROUNDS)]
    stages = {name: median(times) for name, times in zip(STAGES, zip(*rounds, strict=True), strict=True)}
    return {"batch": len(texts), **stages, "all": median(map(sum, rounds))}


def _on_device(profiler: profile) -> list[dict[str, Any]]:
    """Milliseconds a batch of each kernel and copy, the longest first, without the stages that they are part of."""
    found = [
        {"name": event.key, "ms": event.self_device_time_total / 1000 / PROFILED, "calls": event.count / PROFILED}
        for event in profiler.key_averages()
        if event.device_type.name == "CUDA" and event.self_device_time_total and not event.is_user_annotation
    ]
    return sorted(found, key=lambda event: -event["ms"])


def _tables(rows: Sequence[dict[str, float]], on_device: Sequence[dict[str, Any]]) -> str:
    names = [*STAGES, "all"]
    lines = [f"| searches | {' | '.join(f'{name}, ms' for name in names)} |", "| --- " * (1 + len(names)) + "|"]
    lines += [f"| {row['batch']:.0f} | {' | '.join(f'{row[name]:.2f}' for name in names)} |" for row in rows]
    if on_device:
        total = sum(event["ms"] for event in on_device)
        lines += ["", f"On the device, {max(BATCHES)} searches: {total:.2f} ms.", ""]
        lines += ["| kernel or copy | ms a batch | calls a batch |", "| --- | --- | --- |"]
        lines += [
            f"| `{event['name'][:80]}` | {event['ms']:.3f} | {event['calls']:.0f} |"
            for event in on_device[:KERNELS_SHOWN]
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
