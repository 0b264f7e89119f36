"""Recall and time of candidate search, and how well each mode ranks, over datasets in BEIR's layout.

Recall is against exact search over the same codes. Times are of one query, the settings taking turns within one run,
without a server.

    python -m benchmarks.candidates FOLDER [FOLDER ...]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ir_measures
import numpy as np
import torch
from ir_measures import nDCG
from numpy.typing import NDArray
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from tridex.encoding import Artifact, ArtifactError, create_encoder, latest_version_dir, load_artifact
from tridex.export import export_default
from tridex.index import CollectionSpec, Document, Extra, Follower, Ranking, Snapshot, Store, fuse_ranks, fuse_scores
from tridex.kernels import Codec

from .beir import Beir, read_beir
from .publishing import publish
from .timing import percentiles

PRECISION = "int8"
CODEC = Codec.FLOAT16
N_PROBE = (1, 4, 8, 16, 32)
N_CANDIDATES = (100, 300, 1000)
DEPTH = 1000
PACKAGES = ("numpy", "torch", "faiss-cpu", "pylance")
TIMED_QUERIES = 40
_BATCH = 32
_DOCUMENTS_PER_WRITE = 2048


@dataclass(frozen=True)
class Point:
    """One setting of candidate search."""

    n_probe: int
    n_candidates: int
    recall_at_10: float
    recall_at_100: float
    milliseconds: float
    """Median per query."""


@dataclass(frozen=True)
class Result:
    """One collection."""

    name: str
    documents: int
    tokens: int
    queries: int
    centroids: int
    lists_seconds: float
    lists_bytes_per_token: float
    exact_milliseconds: float
    curve: list[Point]
    ndcg_at_10: dict[str, float]


def encode(artifact: Artifact, texts: Sequence[str], kind: str, what: str) -> list[NDArray[np.float32]]:
    """Token embeddings [scoring tokens, dim] of each text."""
    tokenizer, encoder = artifact.tokenizer(), create_encoder(artifact, threads=torch.get_num_threads())
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    embeddings: dict[int, NDArray[np.float32]] = {}
    for start in track(range(0, len(order), _BATCH), what):
        rows = order[start : start + _BATCH]
        batch = getattr(tokenizer, kind)([texts[i] for i in rows])
        for row, values, mask in zip(rows, encoder.encode(batch), batch.embedding_mask, strict=True):
            embeddings[row] = values[mask == 1]
    return [embeddings[i] for i in range(len(texts))]


def cached(path: Path, make: Callable[[], list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
    """What `make` returned, read from `path` where an earlier run stored it."""
    if not path.exists():
        arrays = make()
        np.savez(path, tokens=np.concatenate(arrays).astype(np.float16), lengths=[len(array) for array in arrays])
    file = np.load(path)
    return np.split(file["tokens"].astype(np.float32), np.cumsum(file["lengths"])[:-1])


def indexed(beir: Beir, embeddings: Sequence[NDArray[np.float32]], folder: Path) -> Follower:
    """The documents with their texts in a store of their own."""
    store = Store(folder)
    collection = store.create("benchmark", CollectionSpec(embeddings[0].shape[1], CODEC, "0" * 64))
    rows = [Document(key, text, {}) for key, text in beir.documents.items()]
    for start in range(0, len(rows), _DOCUMENTS_PER_WRITE):
        batch = slice(start, start + _DOCUMENTS_PER_WRITE)
        collection.upsert(rows[batch], embeddings[batch])
    while collection.latest().index_new_texts():
        pass
    return Follower(store, "benchmark", torch.device("cpu"))


def recall(exact: Sequence[Ranking], found: Sequence[Ranking], k: int) -> float:
    return float(
        np.mean([len({*e.ids[:k]} & {*f.ids[:k]}) / len(e.ids[:k]) for e, f in zip(exact, found, strict=True)])
    )


def ndcg(beir: Beir, rankings: Sequence[Ranking]) -> float:
    run = {
        key: dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))
        for key, ranking in zip(beir.queries, rankings, strict=True)
    }
    return float(ir_measures.calc_aggregate([nDCG @ 10], beir.qrels, run)[nDCG @ 10])


def curve(snapshot: Snapshot, queries: Sequence[torch.Tensor], exact: Sequence[Ranking]) -> tuple[list[Point], float]:
    """Every setting, and the median milliseconds of exact search measured in the same turns."""
    settings = [(p, n) for p in N_PROBE for n in N_CANDIDATES if n < snapshot.count()]
    found: dict[tuple[int, int], list[Ranking]] = {setting: [] for setting in settings}
    times: dict[tuple[int, int] | None, list[float]] = {setting: [] for setting in (None, *settings)}
    for i, query in enumerate(track(queries, "candidates")):
        mask = torch.ones((1, len(query)), dtype=torch.bool)
        if i < TIMED_QUERIES:
            started = time.perf_counter()
            snapshot.search(query[None], mask, 100)
            times[None].append(1000 * (time.perf_counter() - started))
        for setting in settings:
            started = time.perf_counter()
            found[setting] += snapshot.search_candidates(query[None], mask, 100, *setting)
            if i < TIMED_QUERIES:
                times[setting].append(1000 * (time.perf_counter() - started))
    points = [
        Point(*setting, recall(exact, hits, 10), recall(exact, hits, 100), percentiles(times[setting])["p50"])
        for setting, hits in found.items()
    ]
    return points, percentiles(times[None])["p50"]


def measure(beir: Beir, artifact: Artifact, data: Path) -> Result:
    stem = f"{beir.name}-{len(beir.documents)}"
    documents = cached(
        data / f"{stem}-documents.npz",
        lambda: encode(artifact, list(beir.documents.values()), "documents", f"{beir.name}: documents"),
    )
    queries = [
        torch.from_numpy(array)
        for array in cached(
            data / f"{stem}-queries.npz",
            lambda: encode(artifact, list(beir.queries.values()), "queries", f"{beir.name}: queries"),
        )
    ]
    with tempfile.TemporaryDirectory(dir=data) as folder:
        follower = indexed(beir, documents, Path(folder))
        snapshot = follower.snapshot
        masks = [torch.ones((1, len(query)), dtype=torch.bool) for query in queries]
        exact = [snapshot.search(query[None], mask, DEPTH)[0] for query, mask in zip(queries, masks, strict=True)]
        snapshot.search_candidates(queries[0][None], masks[0], 10, 1, 10)
        started = time.perf_counter()
        follower.make(Extra.INVERTED_LISTS)
        seconds = time.perf_counter() - started
        lists = snapshot.segments[0].inverted.lists
        if lists is None or len(snapshot.segments) > 1:
            raise SystemExit(f"{beir.name} is too small for inverted lists: {snapshot.count()} documents")
        points, exact_ms = curve(snapshot, queries, exact)
        bm25 = [snapshot.search_texts(text, DEPTH) for text in track(list(beir.queries.values()), "BM25")]
        rankings = {
            "bm25": bm25,
            "maxsim": exact,
            "rerank": [
                snapshot.rescore(query[None], mask, [words.ids])[0]
                for query, mask, words in zip(queries, masks, bm25, strict=True)
            ],
            "hybrid": [fuse_ranks(*pair) for pair in zip(exact, bm25, strict=True)],
            "hybrid, maxsim_weight 0.5": [fuse_scores(*pair, 0.5) for pair in zip(exact, bm25, strict=True)],
        }
        held = lists.centroids.nbytes + lists.rows.nbytes + lists.starts.nbytes
        tokens = snapshot.segments[0].packed.tokens
        return Result(
            name=beir.name,
            documents=len(documents),
            tokens=tokens,
            queries=len(queries),
            centroids=len(lists.centroids),
            lists_seconds=seconds,
            lists_bytes_per_token=held / tokens,
            exact_milliseconds=exact_ms,
            curve=points,
            ndcg_at_10={mode: ndcg(beir, found) for mode, found in rankings.items()},
        )


def table(result: Result) -> str:
    modes = result.ndcg_at_10
    rows = [
        f"| {p.n_probe} | {p.n_candidates} | {p.recall_at_10:.3f} | {p.recall_at_100:.3f} | {p.milliseconds:.1f} "
        f"| {result.exact_milliseconds / p.milliseconds:.1f}x |"
        for p in result.curve
    ]
    return "\n".join(
        (
            f"**{result.name}**: {result.documents:,} documents, {result.tokens:,} tokens, {result.queries} queries.",
            "",
            "| mode | " + " | ".join(modes) + " |",
            "| --- |" + " --- |" * len(modes),
            "| nDCG@10 | " + " | ".join(f"{value:.3f}" for value in modes.values()) + " |",
            "",
            f"{result.centroids:,} centroids, lists made in {result.lists_seconds:.0f} s, "
            f"{result.lists_bytes_per_token:.1f} bytes per token. Exact: {result.exact_milliseconds:.1f} ms per query.",
            "",
            "| n_probe | n_candidates | Recall@10 | Recall@100 | ms per query | against exact |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="datasets in BEIR's layout")
    parser.add_argument("--data", type=Path, default=Path(".tridex"), help="where embeddings are cached")
    parser.add_argument(
        "--documents", type=int, default=20_000, help="of a larger collection: the judged and the first"
    )
    parser.add_argument("--queries", type=int, default=300, help="of a collection with more: the first")
    arguments = parser.parse_args()
    data = arguments.data / "candidates"
    data.mkdir(parents=True, exist_ok=True)
    try:
        artifact = load_artifact(latest_version_dir(data / "repository" / "encoder"))
    except ArtifactError:
        artifact = export_default(data / "repository", precision=PRECISION)
    for folder in arguments.folders:
        result = measure(read_beir(folder, arguments.documents, arguments.queries), artifact, data)
        markdown = table(result)
        Console().print(Markdown(markdown))
        about: dict[str, object] = {"precision": PRECISION, "codec": CODEC.value, **asdict(result)}
        publish(f"candidates-{result.name}", about, markdown, PACKAGES, "Candidates and modes")


if __name__ == "__main__":
    main()
