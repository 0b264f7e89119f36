"""Bulk build and search of real collections, codec by codec, and memory against the size of a synthetic corpus.

SciFact and the largest collection in --corpora are encoded once, and each codec is built from the same embeddings, in a
process of its own whose peak memory is read at its end. The synthetic corpora have random token embeddings, so that
the store is measured and not the encoder.

    python -m benchmarks.build --corpora DIR
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markdown import Markdown

from tridex.building import Embed, Embedder, Progress, build_collection
from tridex.encoding import Artifact, DocumentReading, create_encoder
from tridex.index import CollectionSpec, Follower, Store
from tridex.kernels import Codec, TokenEmbeddings
from tridex.protocol.sources import open_source

from .environment import default_artifact
from .publishing import publish
from .timing import take_turns

QUERIES = 50
TOP_K = 10
DIM = 128
SYNTHETIC = (100_000, 1_000_000)
WORDS = 30_000
"""Distinct texts of the synthetic documents: BM25's vocabulary is a language's, whatever the corpus size."""
ENCODED_TOGETHER = 512
TOKENS = 40
"""Tokens of a synthetic document on average."""


def worker(task: dict[str, Any]) -> None:
    """Builds one collection from stored or random embeddings, and prints time, size and peak memory."""
    embed = _stored(Path(task["embeddings"])) if task["embeddings"] else _random
    spec = CollectionSpec(DIM, Codec(task["codec"]), "f" * 64, document_length=300, windows=True)
    store, name = Store(task["store"]), task["name"]
    started = time.perf_counter()
    done = build_collection(open_source(Path(task["source"])), store, name, spec, embed, progress=Progress(quiet=True))
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "documents": done.documents,
                "seconds": seconds,
                "bytes": done.bytes_per_document,
                "peak_mb": _peak_mb(),
            }
        )
    )


def _peak_mb() -> float:
    """Of this process since exec: getrusage would include what its parent had when it forked."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].removesuffix("kB")) * 1024 / 1e6


def _stored(path: Path) -> Embed:
    """Reads what `_encode` wrote one document at a time, so that the peak memory is the build's."""
    spans: dict[str, tuple[int, int]] = json.loads(path.with_suffix(".json").read_text())

    def embed(texts: Iterable[str], windows: bool) -> Iterator[TokenEmbeddings]:  # noqa: ARG001
        for text in texts:
            first, count = spans[text]
            yield np.fromfile(path, np.float32, count * DIM, offset=first * DIM * 4).reshape(-1, DIM)

    return embed


def _encode(texts: Sequence[str], artifact: Artifact, path: Path) -> int:
    """Writes the token embeddings of all texts, and an index of them beside it; returns the number of tokens."""
    reading = DocumentReading(artifact.manifest.rules.document.length, windows=True)
    embed = Embedder(artifact, create_encoder(artifact, threads=os.cpu_count() or 1), reading)
    spans: dict[str, tuple[int, int]] = {}
    tokens = 0
    with path.open("wb") as file, Progress().stage(path.stem, len(texts)) as done:
        for start in range(0, len(texts), ENCODED_TOGETHER):
            batch = texts[start : start + ENCODED_TOGETHER]
            for text, array in zip(batch, embed(batch, True), strict=True):
                np.asarray(array).tofile(file)
                spans[text] = (tokens, len(array))
                tokens += len(array)
                done(1)
    path.with_suffix(".json").write_text(json.dumps(spans))
    return tokens


def _random(texts: Iterable[str], windows: bool) -> Iterator[TokenEmbeddings]:  # noqa: ARG001
    for text in texts:
        rng = np.random.default_rng(int(text))
        tokens = rng.standard_normal((rng.integers(1, 2 * TOKENS), DIM), np.float32)
        yield tokens / np.linalg.norm(tokens, axis=1, keepdims=True)


def built(task: dict[str, Any]) -> dict[str, float]:
    """Builds one collection in a process of its own; its figures."""
    command = [sys.executable, "-m", "benchmarks.build", "--worker", json.dumps(task)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return measured


def real(folder: Path, artifact: Artifact, scratch: Path, count: int | None) -> list[dict[str, Any]]:
    """A row for each codec over a collection, or its first documents."""
    source = scratch / f"{folder.name}.jsonl"
    with gzip.open(folder / "corpus.jsonl.gz", "rt") as lines:
        # Some ids come several times, which a build refuses.
        distinct = {json.loads(line)["_id"]: line for line in islice(lines, count)}
    source.write_text("".join(distinct.values()))
    texts = [row.document.text for row in open_source(source).rows()]  # type: ignore[union-attr]
    embeddings = scratch / f"{folder.name}.f32"
    started = time.perf_counter()
    tokens = _encode(texts, artifact, embeddings)
    encoding_s = time.perf_counter() - started
    queries = _queries(folder, artifact)
    rows: list[dict[str, Any]] = []
    exact: list[list[str]] = []
    for codec in Codec:
        name = f"{folder.name}-{codec.value}"
        task = {"source": source, "store": scratch / "store", "codec": codec.value, "embeddings": embeddings}
        done = built({key: str(value) for key, value in task.items()} | {"name": name})
        snapshot = Follower(Store(scratch / "store"), name, torch.device("cpu")).snapshot
        mask = torch.ones(queries[0][None].shape[:2], dtype=torch.bool)
        found = [snapshot.search(query[None], mask, TOP_K)[0].ids for query in queries]
        exact = exact or found
        kept = np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(exact, found, strict=True)])
        (times,) = take_turns([partial(snapshot.search, queries[0][None], mask, TOP_K)], mask.device, rounds=20)
        rows.append(
            {
                "corpus": folder.name,
                "codec": codec.value,
                **done,
                "tokens": tokens / len(texts),
                "with_encoder": done["documents"] / (done["seconds"] + encoding_s),
                "search_ms": float(np.median(times)),
                "kept": float(kept),
            }
        )
    return rows


def _queries(folder: Path, artifact: Artifact) -> list[torch.Tensor]:
    texts = [json.loads(line)["text"] for line in islice((folder / "queries.jsonl").open(), QUERIES)]
    # Encoded as documents: only their length matters here, and that all codecs get the same.
    reading = DocumentReading(artifact.manifest.rules.document.length, windows=False)
    embed = Embedder(artifact, create_encoder(artifact, threads=os.cpu_count() or 1), reading)
    return [torch.from_numpy(np.resize(tokens, (32, DIM))) for tokens in embed(texts, False)]


def synthetic(scratch: Path) -> list[dict[str, Any]]:
    """A row per corpus size."""
    rows = []
    for count in SYNTHETIC:
        source = scratch / f"synthetic-{count}.jsonl"
        source.write_text("".join(f'{{"id": "{i}", "text": "{i % WORDS}"}}\n' for i in range(count)))
        task = {"source": str(source), "store": str(scratch / "store"), "codec": "float16", "embeddings": ""}
        rows.append({"codec": "float16", **built({**task, "name": f"synthetic-{count}"})})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, help="a folder of BEIR folders, scifact among them")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--documents", type=int, help="of each collection, the first ones instead of all")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(json.loads(arguments.worker))
        return
    if arguments.corpora is None:
        parser.error("--corpora is missing; expected a folder of BEIR folders")
    artifact = default_artifact(arguments.repository)
    folders = {file.parent: file.stat().st_size for file in arguments.corpora.glob("*/corpus.jsonl.gz")}
    chosen = dict.fromkeys([arguments.corpora / "scifact", max(folders, key=lambda folder: folders[folder])])
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        drawn = synthetic(scratch)
        measured: list[dict[str, Any]] = []
        for corpus in chosen:
            measured += real(corpus, artifact, scratch, arguments.documents)
            text = table(measured, drawn)
            Console().print(Markdown(text))
            # After each one: the next takes half an hour.
            libraries = ("numpy", "onnxruntime", "pylance", "torch")
            publish("build", {"collections": measured, "synthetic": drawn}, text, libraries)


def table(measured: Sequence[dict[str, Any]], drawn: Sequence[dict[str, Any]]) -> str:
    """Both tables, in Markdown."""
    lines = [
        "| collection | tokens per document | codec | documents/s, embeddings given | documents/s "
        "| bytes per document | peak MB | search ms | of float32's top 10 |",
        "| --- " * 9 + "|",
    ]
    lines += [
        f"| {row['corpus']} ({row['documents']:,}) | {row['tokens']:.0f} | {row['codec']} "
        f"| {row['documents'] / row['seconds']:,.0f} | {row['with_encoder']:.1f} | {row['bytes']:,.0f} "
        f"| {row['peak_mb']:,.0f} | {row['search_ms']:.1f} | {100 * row['kept']:.1f} % |"
        for row in measured
    ]
    lines += ["", "| synthetic documents | codec | documents/s | bytes per document | peak MB |", "| --- " * 5 + "|"]
    lines += [
        f"| {row['documents']:,} | {row['codec']} | {row['documents'] / row['seconds']:,.0f} | {row['bytes']:,.0f} "
        f"| {row['peak_mb']:,.0f} |"
        for row in drawn
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
