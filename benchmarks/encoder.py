"""The served encoder against ONNX Runtime used directly on the same exported model, and int8 against fp32.

Both sides get the same tokens, the same number of threads and alternate within one run; "direct" is one padded batch,
as the library's documentation shows it. Parity is checked before anything is timed.

    python -m benchmarks.encoder
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from examples import stdlib_corpus
from tridex.encoding import Artifact, TokenBatch, create_encoder
from tridex.export import export_default
from tridex.protocol import models

from .environment import questions
from .publishing import publish

REPEATS = 9
DOCUMENT_BATCH = 16
PAUSE_S = 0.02
SETTLE_S = 0.2


def direct_encoder(artifact: Artifact, threads: int) -> Callable[[TokenBatch], np.ndarray[Any, np.dtype[np.float32]]]:
    """ONNX Runtime as its documentation shows it: default options, one padded batch per call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(artifact.model_path), options, providers=["CPUExecutionProvider"])

    def encode(batch: TokenBatch) -> np.ndarray[Any, np.dtype[np.float32]]:
        inputs = {
            models.INPUT_IDS.name: batch.input_ids,
            models.ATTENTION_MASK.name: batch.attention_mask,
            models.EMBEDDING_MASK.name: batch.embedding_mask,
        }
        return np.asarray(session.run(None, inputs)[0])

    return encode


def side_by_side(
    encoders: dict[str, Callable[[TokenBatch], Any]], batches: Sequence[TokenBatch], pause_s: float
) -> dict[str, list[float]]:
    """Milliseconds per text: for each encoder, one figure per repeat, the encoders taking turns.

    `pause_s` passes before each call, uncounted: a text that comes alone finds the encoder's threads asleep. A turn
    begins once the threads of the one before have stopped spinning, with a call that is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in encoders}
    texts = sum(len(batch.input_ids) for batch in batches)
    for _ in range(REPEATS):
        for name, encode in encoders.items():
            time.sleep(SETTLE_S)
            encode(batches[0])
            elapsed = 0.0
            for batch in batches:
                time.sleep(pause_s)
                started = time.perf_counter()
                encode(batch)
                elapsed += time.perf_counter() - started
            times[name].append(1000 * elapsed / texts)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    rows = stdlib_corpus.load(arguments.data / "stdlib.jsonl")
    threads = os.cpu_count() or 1

    with tempfile.TemporaryDirectory() as folder:
        artifacts = {
            precision: export_default(Path(folder) / precision, precision=precision)
            for precision in track(("fp32", "int8"), "exporting")
        }
        tokenizer = artifacts["fp32"].tokenizer()
        documents = random.Random(0).sample([str(row["text"]) for row in rows], 4 * DOCUMENT_BATCH)
        lone_queries = [tokenizer.queries([text]) for text in questions(rows, 60)]
        lone_documents = [tokenizer.documents([text]) for text in documents[:DOCUMENT_BATCH]]
        work = {
            "query, alone, after a pause": lone_queries,
            "query, alone, back to back": lone_queries,
            "queries, 16 together": [tokenizer.queries(questions(rows, 16))],
            "document, alone, after a pause": lone_documents,
            "document, alone, back to back": lone_documents,
            f"documents, {DOCUMENT_BATCH} together": [
                tokenizer.documents(documents[i : i + DOCUMENT_BATCH]) for i in range(0, len(documents), DOCUMENT_BATCH)
            ],
        }
        encoders: dict[str, Callable[[TokenBatch], Any]] = {}
        for precision, artifact in artifacts.items():
            encoders[f"{precision} served"] = create_encoder(artifact, threads=threads).encode
            encoders[f"{precision} direct"] = direct_encoder(artifact, threads)
        check_parity(encoders, [batch for batches in work.values() for batch in batches])
        measured = {
            name: side_by_side(encoders, batches, PAUSE_S if "pause" in name else 0)
            for name, batches in track(work.items(), "measuring")
        }

    markdown = table(measured)
    Console().print(Markdown(markdown))
    publish("encoder", {"threads": threads, "ms_per_text": measured}, markdown)


def check_parity(encoders: dict[str, Callable[[TokenBatch], Any]], batches: Sequence[TokenBatch]) -> None:
    """Raises RuntimeError where the two sides differ. How far int8 is from fp32, the export's parity gate checks."""
    for precision, batch in itertools.product(("fp32", "int8"), batches):
        difference = np.abs(encoders[f"{precision} served"](batch) - encoders[f"{precision} direct"](batch)).max()
        if difference > 1e-4:
            raise RuntimeError(f"served and direct {precision} embeddings differ by {difference}")


def table(measured: dict[str, dict[str, list[float]]]) -> str:
    """Medians as a Markdown table, with the ratios that matter."""
    head = ("", "fp32 served", "fp32 direct", "served is", "int8 served", "int8 direct", "int8 over fp32, served")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, times in measured.items():
        ms = {encoder: median(values) for encoder, values in times.items()}
        cells = (
            *(name, f"{ms['fp32 served']:.2f} ms", f"{ms['fp32 direct']:.2f} ms"),
            f"{ms['fp32 direct'] / ms['fp32 served']:.2f}x as fast",
            *(f"{ms['int8 served']:.2f} ms", f"{ms['int8 direct']:.2f} ms"),
            f"{ms['fp32 served'] / ms['int8 served']:.2f}x",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
