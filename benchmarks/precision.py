"""Ranking quality of the int8 export against fp32, every document scored for every query.

On SciFact where its folder is given (300 test queries; every judged document and the first others), else on the
standard library's documentation, where 300 documents are each the answer to their first sentence.

    python -m benchmarks.precision [--scifact FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
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

from examples import stdlib_corpus
from tridex.encoding import Encoder, TokenBatch, create_encoder
from tridex.export import export_default

from .beir import Beir, read_beir
from .publishing import publish

DOCUMENTS = 1000
QUERIES = 300
TOP_K = 10
BATCH = 64


@dataclass(frozen=True)
class Quality:
    """int8 against fp32."""

    ndcg_fp32: float
    ndcg_int8: float
    top_kept: float
    """Share of fp32's top ten that is in int8's top ten."""
    query_cosine: float
    """Mean cosine between a token's two embeddings."""
    document_cosine: float


def known_items(rows: Sequence[dict[str, object]]) -> Beir:
    documents = {str(row["_id"]): str(row["text"]) for row in rows[:: max(1, len(rows) // DOCUMENTS)]}
    sentences = {key: text.partition("\n")[2].partition(".")[0].strip() for key, text in documents.items()}
    queries = dict([(key, s) for key, s in sorted(sentences.items()) if len(s.split()) > 3][:QUERIES])
    return Beir("the standard library", documents, queries, {key: {key: 1} for key in queries})


def encode(encoder: Encoder, batches: Sequence[TokenBatch], what: str) -> list[NDArray[np.float32]]:
    """One array [scoring tokens, dim] per text."""
    return [
        embeddings[mask == 1]
        for batch in track(batches, what)
        for embeddings, mask in zip(encoder.encode(batch), batch.embedding_mask, strict=True)
    ]


def maxsim(queries: Sequence[NDArray[np.float32]], documents: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Scores [queries, documents]."""
    packed = torch.from_numpy(np.concatenate(documents))
    lengths = torch.tensor([len(document) for document in documents])
    scores = []
    for query in queries:
        similarities = packed @ torch.from_numpy(query).T
        scores.append(torch.segment_reduce(similarities, "max", lengths=lengths).sum(1))
    return torch.stack(scores).numpy()


def ndcg(collection: Beir, scores: NDArray[np.float32]) -> float:
    keys = list(collection.documents)
    run = {
        query: dict(zip(keys, row.tolist(), strict=True)) for query, row in zip(collection.queries, scores, strict=True)
    }
    return float(ir_measures.calc_aggregate([nDCG @ TOP_K], collection.qrels, run)[nDCG @ TOP_K])


def cosine(one: Sequence[NDArray[np.float32]], other: Sequence[NDArray[np.float32]]) -> float:
    """Embeddings are unit vectors."""
    return float((np.concatenate(one) * np.concatenate(other)).sum(axis=1, dtype=np.float64).mean())


def compare(collection: Beir, folder: Path) -> Quality:
    embeddings = {}
    for precision in ("fp32", "int8"):
        artifact = export_default(folder / precision, precision=precision)
        tokenizer, encoder = artifact.tokenizer(), create_encoder(artifact, threads=torch.get_num_threads())
        queries, documents = list(collection.queries.values()), list(collection.documents.values())
        embeddings[precision] = (
            encode(encoder, [tokenizer.queries(queries)], f"{precision} queries"),
            encode(
                encoder,
                [tokenizer.documents(documents[i : i + BATCH]) for i in range(0, len(documents), BATCH)],
                f"{precision} documents",
            ),
        )
    fp32, int8 = embeddings["fp32"], embeddings["int8"]
    scores = maxsim(*fp32), maxsim(*int8)
    tops = [np.argsort(-s, axis=1, kind="stable")[:, :TOP_K] for s in scores]
    return Quality(
        ndcg_fp32=ndcg(collection, scores[0]),
        ndcg_int8=ndcg(collection, scores[1]),
        top_kept=float(np.mean([len(np.intersect1d(a, b)) / TOP_K for a, b in zip(*tops, strict=True)])),
        query_cosine=cosine(fp32[0], int8[0]),
        document_cosine=cosine(fp32[1], int8[1]),
    )


def table(collection: Beir, quality: Quality) -> str:
    sizes = f"{len(collection.queries)} queries, {len(collection.documents)} documents"
    return "\n".join(
        (
            f"| {collection.name}: {sizes} | fp32 | int8 |",
            "| --- | --- | --- |",
            f"| nDCG@{TOP_K} | {quality.ndcg_fp32:.4f} | {quality.ndcg_int8:.4f} |",
            f"| of fp32's top {TOP_K} | 100 % | {100 * quality.top_kept:.1f} % |",
            f"| mean cosine to fp32, query tokens | 1 | {quality.query_cosine:.4f} |",
            f"| mean cosine to fp32, document tokens | 1 | {quality.document_cosine:.4f} |",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".tridex"))
    parser.add_argument("--scifact", type=Path, help="a BEIR folder")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    if arguments.scifact:
        collection = read_beir(arguments.scifact, DOCUMENTS, QUERIES)
    else:
        collection = known_items(stdlib_corpus.load(arguments.data / "stdlib.jsonl"))
    with tempfile.TemporaryDirectory() as folder:
        quality = compare(collection, Path(folder))
    markdown = table(collection, quality)
    Console().print(Markdown(markdown))
    publish("precision", {"collection": collection.name, **asdict(quality)}, markdown, section="Encoder")


if __name__ == "__main__":
    main()
