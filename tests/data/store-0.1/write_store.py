"""Wrote the store beside this file and expected.json, by the code of commit 9b2e160 (0.1.0, before the packages moved).

    git worktree add ../old 9b2e160
    PYTHONPATH=../old/protocol:../old/kernels:../old/index python tests/data/store-0.1/write_store.py

It is kept to say what the store holds, not to be run again: today's code has other module names, and a store that it
wrote would prove nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.index import Collection, CollectionSpec, Document, Follower, Store, View, declared_fields
from tridex.kernels import Codec

HERE = Path(__file__).parent
DIM = 16
FIELDS = declared_fields({"year": "int", "kind": "str", "rating": "float", "open": "bool", "seen": "datetime"})
CHECKPOINT = {"weights": "1" * 64, "tokenizer": "2" * 64, "rules": "3" * 64}
WORDS = ["river", "mountain", "forest", "desert", "island", "harbour", "bridge", "tower", "market", "garden"]
RESIDUAL = (Codec.RESIDUAL4, Codec.RESIDUAL2)

FILTERS: list[Any] = [
    {"field": "meta.year", "operator": ">=", "value": 2005},
    {"field": "kind", "operator": "not in", "value": ["Ä'b", None]},
    {"field": "rating", "operator": "==", "value": None},
    {"field": "seen", "operator": "<", "value": "2020-01-05T00:00:00Z"},
    {
        "operator": "NOT",
        "conditions": [
            {"field": "open", "operator": "==", "value": True},
            {"field": "year", "operator": "in", "value": [2001, 2002, 2003]},
        ],
    },
]
TEXT_QUERIES = ["river bridges", "Harbour garden, harbour market", "new island", "nothing of it"]


def tokens_of(seed: int, most: int = 5) -> NDArray[np.float32]:
    """Unit vectors around a few directions, one to `most` of them."""
    directions = np.random.default_rng(7).normal(size=(8, DIM))
    rng = np.random.default_rng([1, seed])
    tokens = directions[rng.integers(0, 8, 1 + seed % most)] + 0.3 * rng.normal(size=(1 + seed % most, DIM))
    return (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32)


def document(i: int, revision: int = 0) -> Document:
    rng = np.random.default_rng([2, i, revision])
    words = rng.choice(WORDS, int(rng.integers(2, 6))).tolist()
    text = " ".join([*words, "new"] if revision else words)
    metadata: dict[str, Any] = {
        "year": 2000 + i % 10,
        "kind": ["a", "Ä'b", None][i % 3],
        "open": i % 2 == 0,
        "seen": f"2020-01-{1 + i % 9:02}T12:00:00+02:00",
        "nested": {"list": [i, 0.5, "é"], "revision": revision},
    }
    if i % 4:
        metadata["rating"] = i / 8
    return Document(f"d{i:03}", text, metadata)


def upsert(collection: Collection, rows: range, revision: int = 0, most: int = 5) -> None:
    collection.upsert([document(i, revision) for i in rows], [tokens_of(i + 1000 * revision, most) for i in rows])


def write(store: Store) -> None:
    sample = np.concatenate([tokens_of(seed) for seed in range(400)])
    spec = CollectionSpec(DIM, Codec.FLOAT32, "f" * 64, FIELDS, checkpoint=CHECKPOINT)
    for codec in Codec:
        codebook = kernels.train_codebook(sample, codec, centroids=8) if codec in RESIDUAL else None
        collection = store.create(codec.value, replace(spec, codec=codec), codebook)
        upsert(collection, range(12))
        upsert(collection, range(10, 14), revision=1)
        collection.delete(["d003", "d012"])
    # A text index that knows most documents, some behind it, and deleted rows in both.
    texts = store.create("texts", replace(spec, codec=Codec.INT8))
    upsert(texts, range(280), most=2)
    texts.index_new_texts()
    upsert(texts, range(270, 300), revision=1, most=2)
    texts.delete([f"d{i:03}" for i in range(0, 300, 7)])
    # Many small writes, rewritten, with the older versions gone.
    compacted = store.create("compacted", replace(spec, codec=Codec.FLOAT16))
    for first in range(0, 24, 3):
        upsert(compacted, range(first, first + 3))
    compacted.delete_matching({"field": "year", "operator": "==", "value": 2004})
    compacted.compact()
    compacted.clean_up(timedelta(0))
    # What a bulk build finished, and one that was interrupted.
    long = replace(spec, codec=Codec.BFLOAT16, document_length=180, windows=True, pooling_factor=2)
    with store.begin_build("windows", long, "a" * 64) as build:
        build.append([document(i) for i in range(8)], [tokens_of(i) for i in range(8)])
        store.finish_build(build)
    with store.begin_build("interrupted", long, "b" * 64) as build:
        build.append([document(i) for i in range(5)], [tokens_of(i) for i in range(5)])
    store.set_alias("live", "texts")


def ranking(found: Any) -> dict[str, Any]:
    return {"ids": found.ids, "scores": [round(score, 6) for score in found.scores.tolist()]}


def searched(view: View, queries: list[NDArray[np.float32]]) -> list[dict[str, Any]]:
    found = []
    for query in queries:
        tokens = torch.from_numpy(query)[None]
        found.append(ranking(view.search(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), 10)[0]))
    return found


def expected(store: Store, name: str, queries: list[NDArray[np.float32]]) -> dict[str, Any]:
    collection = store.open(name)
    view = Follower(store, name, torch.device("cpu")).view
    spec = asdict(collection.spec) | {
        "codec": collection.spec.codec.value,
        "fields": {field: kind.value for field, kind in collection.spec.fields.items()},
    }
    return {
        "spec": spec,
        "version": collection.version,
        "count": collection.count(),
        "size": asdict(collection.size()),
        "documents": [asdict(document) for document in collection.scroll(1000)],
        "search": searched(view, queries),
        "filters": [
            {"count": collection.count(filters), "search": searched(view.filtered(filters), queries[:1])}
            for filters in FILTERS
        ],
        "texts": [ranking(view.search_texts(query, 10)) for query in TEXT_QUERIES],
    }


def main() -> None:
    store = Store(HERE / "store")
    write(store)
    queries = [tokens_of(5000 + i).round(3) for i in range(1, 4)]
    result = {
        "names": store.names(),
        "aliases": store.aliases(),
        "made_from": {name: store.made_from(name) for name in store.names()},
        "queries": [query.astype(float).round(3).tolist() for query in queries],
        "filters": FILTERS,
        "text_queries": TEXT_QUERIES,
        "collections": {name: expected(store, name, queries) for name in store.names()},
    }
    (HERE / "expected.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
