"""The served search against brute force by Sentence Transformers on the same checkpoint, over a real collection."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import nDCG
from sentence_transformers import MultiVectorEncoder

from tridex.client import Client

SCIFACT = Path(__file__).parents[3] / "shared" / "data" / "scifact"
DOCUMENTS = 400
"""Of SciFact's 5,183: every judged one and the first others. Two CPU cores encode these twice in half a minute."""
TOP_K = 10
TOLERANCE = 1e-3
"""Of a score: fp32 on both sides, differently ordered sums of about ten maxima."""


@dataclass(frozen=True)
class Collection:
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def scifact() -> Collection:
    with gzip.open(SCIFACT / "corpus.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    qrels: dict[str, dict[str, int]] = {}
    for line in (SCIFACT / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    judged = {document for grades in qrels.values() for document in grades}
    rows.sort(key=lambda row: row["_id"] not in judged)
    documents = {row["_id"]: f"{row['title']} {row['text']}" for row in rows[:DOCUMENTS]}
    queries = {row["_id"]: row["text"] for row in map(json.loads, (SCIFACT / "queries.jsonl").open())}
    return Collection(documents, {key: queries[key] for key in qrels}, qrels)


def known_items(rows: list[dict[str, object]]) -> Collection:
    """Without SciFact: each of 300 documents of the standard library is the answer to its own first sentence."""
    documents = {str(row["_id"]): str(row["text"]) for row in rows[:: max(1, len(rows) // DOCUMENTS)]}
    sentences = {key: text.partition("\n")[2].partition(".")[0].strip() for key, text in documents.items()}
    queries = dict([(key, s) for key, s in sorted(sentences.items()) if len(s.split()) > 3][:300])
    return Collection(documents, queries, {key: {key: 1} for key in queries})


@pytest.fixture(scope="module")
def collection(stdlib: list[dict[str, object]]) -> Collection:
    return scifact() if SCIFACT.exists() else known_items(stdlib)


@pytest.fixture(scope="module")
def oracle(checkpoint: Path, collection: Collection) -> dict[str, dict[str, float]]:
    """Every document's score for every query, by Sentence Transformers alone."""
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    keys = list(collection.documents)
    documents = model.encode_document(list(collection.documents.values()), batch_size=32)
    queries = model.encode_query(list(collection.queries.values()), batch_size=32)
    scores = np.concatenate(
        [model.similarity(queries[i : i + 10], documents).numpy() for i in range(0, len(queries), 10)]
    )
    return {
        query: dict(zip(keys, row.tolist(), strict=True)) for query, row in zip(collection.queries, scores, strict=True)
    }


def test_served_top_10_is_brute_force(server, collection: Collection, oracle: dict[str, dict[str, float]]) -> None:
    with Client(server.address, timeout_s=300) as client:
        # The library cuts long documents.
        client.create_collection("parity", codec="float32", long_documents="truncate")
        client.upsert(
            "parity",
            ({"id": key, "text": text} for key, text in collection.documents.items()),
            batch_size=64,
        )
        assert client.count("parity") == len(collection.documents)
        results = client.search_batch("parity", list(collection.queries.values()), top_k=TOP_K, with_text=False)

    runs = zip(collection.queries, results, strict=True)
    served = {query: {hit.id: hit.score for hit in result} for query, result in runs}
    assert len(served) >= 300
    for query, scores in oracle.items():
        expected = sorted(scores, key=lambda key: (-scores[key], key))[:TOP_K]
        for place, (key, score) in enumerate(served[query].items()):
            assert score == pytest.approx(scores[key], abs=TOLERANCE)
            # Another id in this place only where brute force has both within the tolerance of each other.
            assert key == expected[place] or abs(scores[key] - scores[expected[place]]) < TOLERANCE

    brute = {q: dict(sorted(s.items(), key=lambda item: (-item[1], item[0]))[:TOP_K]) for q, s in oracle.items()}
    assert ndcg(collection, served) == pytest.approx(ndcg(collection, brute), abs=0.002)
    same = sum(list(served[q]) == list(brute[q]) for q in served)
    print(f"{same} of {len(served)} top tens identical; nDCG@10 {ndcg(collection, served):.4f}")


def ndcg(collection: Collection, run: dict[str, dict[str, float]]) -> float:
    return float(ir_measures.calc_aggregate([nDCG @ TOP_K], collection.qrels, run)[nDCG @ TOP_K])
