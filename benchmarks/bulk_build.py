"""Documents a second of a bulk build, from texts to a finished collection, encoder included, on a CPU or a GPU.

    python -m benchmarks.bulk_build --device cuda --corpus <BEIR folder>

What every codec and the store take, embeddings given, is `benchmarks.build`'s to measure.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from tridex.common.device import resolve_device
from tridex.encoding import Artifact, create_encoder
from tridex.kernels import Codec

from .environment import CODECS, Corpus, build, chosen, default_artifact, write_jsonl
from .publishing import filed, publish

WARM_UP = 200
"""Documents of a first build, which is not counted: it loads a GPU's libraries."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--corpus", type=Path, help="a BEIR folder, in place of the standard library's documentation")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    corpus = chosen(arguments.corpus, arguments.data)
    rows = measured(corpus, default_artifact(arguments.repository), device)
    text = table(rows)
    Console().print(Markdown(text))
    results: dict[str, object] = {"device": device, "builds": rows}
    publish(filed("bulk-build", device, corpus.name), results, text, section="Bulk build")


def measured(corpus: Corpus, artifact: Artifact, device: str) -> list[dict[str, Any]]:
    """A row for each codec."""
    encoder = create_encoder(artifact, device, threads=os.cpu_count() or 1)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        first = write_jsonl(Path(folder) / "first.jsonl", corpus.documents[:WARM_UP])
        every = write_jsonl(Path(folder) / "corpus.jsonl", corpus.documents)
        build(first, store, "first", Codec.FLOAT16, artifact, encoder)
        for codec in CODECS:
            began = time.perf_counter()
            done = build(every, store, codec, Codec(codec), artifact, encoder)
            seconds = time.perf_counter() - began
            rows.append({"corpus": corpus.name, "codec": codec, "documents": done.documents, "seconds": seconds})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each codec, in Markdown."""
    lines = ["| texts to a collection | codec | documents/s | seconds |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row['corpus']} ({row['documents']:,}) | {row['codec']} | {row['documents'] / row['seconds']:,.1f} "
        f"| {row['seconds']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
