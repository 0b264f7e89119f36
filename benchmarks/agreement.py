"""How far a device's answers are from a CPU's, and those to a query among others from those to the query alone.

    python -m benchmarks.agreement --corpus <BEIR folder>

On both devices the documents are encoded and built there, and the served model searches them, without a Triton server.
A GPU's libraries choose their products by the shape of a batch, so that a query's embeddings differ in their last bits
with what else is in its batch; a CPU's do not.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markdown import Markdown

from tridex.client import Document
from tridex.common.device import CPU, resolve_device
from tridex.encoding import Artifact, create_encoder
from tridex.evaluation import evaluate, parse_measures
from tridex.kernels import Codec
from tridex.serving.backend.service import Context, Request, Sender, as_strings
from tridex.serving.metrics.registry import Metrics
from tridex.serving.models.search import SearchService

from .beir import Beir, read_beir
from .environment import build, default_artifact, no_infer, write_jsonl
from .publishing import filed, publish

BATCH = 64
CODEC = Codec.FLOAT16
MEASURE = "nDCG@10"
TOP_K = 10


class Found(NamedTuple):
    """The best documents for a query."""

    ids: list[str]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Of one device."""

    cpu_quality: float
    quality: float
    """nDCG@10 of the judged queries, each one alone."""
    queries: int
    same_ids: int
    """Queries that find the same documents in the same order alone and among others."""
    largest_difference: float
    """Between the two's scores, place by place."""
    largest_gap: float
    """From a place that has other documents in the two to the nearest one beside it, by the scores of the query alone:
    what changes places is so close. 0 where none does; what would follow the last place is taken to be there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="a BEIR folder")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--documents", type=int, default=1000, help="at most; judged ones first")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    beir = read_beir(arguments.corpus, arguments.documents)
    agreement = measured(beir, default_artifact(arguments.repository), device)
    text = table(beir, agreement)
    Console().print(Markdown(text))
    about: dict[str, object] = {"device": device, "corpus": beir.name, "documents": len(beir.documents)}
    publish(filed("agreement", device, beir.name), {**about, **asdict(agreement)}, text, section="Agreement")


def measured(beir: Beir, artifact: Artifact, device: str) -> Agreement:
    """The device against a CPU, and against itself."""
    texts = list(beir.queries.values())
    alone: dict[str, list[Found]] = {}
    for name in dict.fromkeys((CPU, device)):
        with searching(beir, artifact, name) as search:
            alone[name] = [search([text])[0] for text in texts]
            if name == device:
                among_others = [
                    found
                    for first in range(0, len(texts), BATCH)
                    for found in search(list(islice(cycle(texts), first, first + BATCH)))[: len(texts) - first]
                ]
    pairs = list(zip(alone[device], among_others, strict=True))
    return Agreement(
        cpu_quality=quality(beir, alone[CPU]),
        quality=quality(beir, alone[device]),
        queries=len(texts),
        same_ids=sum(one.ids == other.ids for one, other in pairs),
        largest_difference=float(max(np.abs(one.scores - other.scores).max() for one, other in pairs)),
        largest_gap=max(_gap(one, other) for one, other in pairs),
    )


@contextmanager
def searching(beir: Beir, artifact: Artifact, device: str) -> Iterator[Callable[[Sequence[str]], list[Found]]]:
    """What searches the documents for texts that arrive together, on a device that has encoded them."""
    with TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        source = write_jsonl(Path(folder) / "corpus.jsonl", (Document(*item) for item in beir.documents.items()))
        build(source, store, "c", CODEC, artifact, create_encoder(artifact, device, threads=os.cpu_count() or 1))
        service = SearchService(Context(artifact.directory.parents[1], device, store, no_infer, Metrics()))

        def search(texts: Sequence[str]) -> list[Found]:
            parameters = {"collection": "c", "top_k": TOP_K, "with_text": False, "with_metadata": False}
            requests = [
                Request({"QUERY": as_strings([text])[:, None]}, parameters, Sender(timeout_s=600.0)) for text in texts
            ]
            return [_found(result) for result in service.answer(requests)]

        try:
            yield search
        finally:
            service.close()


def quality(beir: Beir, found: Sequence[Found]) -> float:
    """The mean of MEASURE over all judged queries."""
    run = {
        query: dict(zip(one.ids, one.scores.tolist(), strict=True))
        for query, one in zip(beir.queries, found, strict=True)
    }
    return evaluate(beir.qrels, run, parse_measures([MEASURE])).means[MEASURE]


def table(beir: Beir, agreement: Agreement) -> str:
    """In Markdown."""
    sizes = f"{agreement.queries} queries, {len(beir.documents):,} documents"
    return "\n".join(
        (
            f"| {beir.name}: {sizes}, {CODEC.value} | |",
            "| --- | --- |",
            f"| {MEASURE} | {agreement.quality:.4f} |",
            f"| a CPU's | {agreement.cpu_quality:.4f} |",
            f"| the same {TOP_K} alone and among {BATCH} | {agreement.same_ids} of {agreement.queries} queries |",
            f"| their scores differ by at most | {agreement.largest_difference:.2g} |",
        )
    )


def _gap(one: Found, other: Found) -> float:
    """Agreement's largest_gap, of one query."""
    gaps = -np.diff(one.scores)
    nearest = np.minimum(np.append(np.inf, gaps), np.append(gaps, 0))
    return float(nearest[np.array(one.ids) != np.array(other.ids)].max(initial=0))


def _found(result: Any) -> Found:
    answer = result.result() if isinstance(result, Future) else result
    if isinstance(answer, Exception):
        raise answer
    return Found([key.decode() for key in answer["IDS"][0]], np.asarray(answer["SCORES"][0]))


if __name__ == "__main__":
    main()
