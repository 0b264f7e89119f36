"""Wrote the stores of formats 2 and 3 beside this file, and what they hold, by the last commits of these formats.

    git worktree add ../old 032566f                      # format 2; 67d8c2e for format 3
    PYTHONPATH=../old/protocol:../old/kernels:../old/index python tests/data/before-0.1/write_stores.py

It is kept to say what the stores hold, not to be run again: today's code has other module names, and a store that it
wrote would prove nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.index import Collection, CollectionSpec, Document, Follower, Store, declared_fields
from tridex.kernels import Codec

HERE = Path(__file__).parent
DIM = 16
FIELDS = declared_fields({"year": "int", "kind": "str", "rating": "float", "open": "bool", "seen": "datetime"})
WORDS = ["river", "mountain", "forest", "desert", "island", "harbour", "bridge", "tower", "market", "garden"]

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


def tokens_of(i: int, revision: int = 0) -> NDArray[np.float32]:
    """One to five unit vectors around a few directions."""
    directions = np.random.default_rng(7).normal(size=(8, DIM))
    rng = np.random.default_rng([1, i, revision])
    tokens = directions[rng.integers(0, 8, 1 + i % 5)] + 0.3 * rng.normal(size=(1 + i % 5, DIM))
    return (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32)


def document(i: int, revision: int = 0) -> Document:
    rng = np.random.default_rng([2, i, revision])
    words = rng.choice(WORDS, int(rng.integers(2, 6))).tolist()
    metadata: dict[str, Any] = {
        "year": 2000 + i % 10,
        "kind": ["a", "Ä'b", None][i % 3],
        "open": i % 2 == 0,
        "seen": f"2020-01-{1 + i % 9:02}T12:00:00+02:00",
        "nested": {"list": [i, 0.5, "é"], "revision": revision},
    }
    if i % 4:
        metadata["rating"] = i / 8
    return Document(f"d{i:03}", " ".join([*words, "new"] if revision else words), metadata)


def fill(collection: Collection) -> None:
    """Four segments, with deleted rows in two."""
    for rows, revision in ((range(8), 0), (range(8, 14), 0), (range(6, 10), 1), (range(14, 16), 0)):
        collection.upsert([document(i, revision) for i in rows], [tokens_of(i, revision) for i in rows])
    collection.delete(["d003", "d012"])


def write(store: Store, store_format: int) -> None:
    if store_format == 2:
        for codec in (Codec.FLOAT16, Codec.INT8):
            fill(store.create(codec.value, CollectionSpec(DIM, codec, "f" * 64, FIELDS)))
        store.set_alias("live", "int8")
        return
    sample = np.concatenate([tokens_of(i, 9) for i in range(400)])
    codebook = kernels.train_codebook(sample, Codec.RESIDUAL2, centroids=8)
    fill(store.create("residual2", CollectionSpec(DIM, Codec.RESIDUAL2, "f" * 64, FIELDS), codebook))
    long = CollectionSpec(DIM, Codec.INT8, "f" * 64, FIELDS, document_length=180, windows=True, pooling_factor=2)
    with store.begin_build("windows", long, "a" * 64) as build:
        build.append([document(i) for i in range(8)], [tokens_of(i) for i in range(8)])
        store.finish_build(build)
    store.set_alias("live", "windows")


def ranking(found: Any) -> dict[str, Any]:
    return {"ids": found.ids, "scores": [round(score, 6) for score in found.scores.tolist()]}


def searched(view: Any, queries: list[NDArray[np.float32]]) -> list[dict[str, Any]]:
    found = []
    for query in queries:
        tokens = torch.from_numpy(query)[None]
        found.append(ranking(view.search(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), 10)[0]))
    return found


def expected(store: Store, name: str, queries: list[NDArray[np.float32]], text_queries: list[str]) -> dict[str, Any]:
    collection = store.open(name)
    view = Follower(store, name, torch.device("cpu")).view
    tokens = collection.dataset.to_table(columns=["id", "tokens"]).to_pydict()
    spec = asdict(collection.spec) | {
        "codec": collection.spec.codec.value,
        "fields": {field: kind.value for field, kind in collection.spec.fields.items()},
    }
    return {
        "spec": spec,
        "version": collection.version,
        "count": collection.count(),
        "size": {
            "documents": len(tokens["id"]),
            "tokens": sum(tokens["tokens"]),
            "id_bytes": sum(len(key.encode()) for key in tokens["id"]),
        },
        "documents": [asdict(document) for document in collection.scroll(1000)],
        "search": searched(view, queries),
        "filters": [
            {"count": collection.count(filters), "search": searched(view.filtered(filters), queries[:1])}
            for filters in FILTERS
        ],
        "texts": [ranking(view.search_texts(query, 10)) for query in text_queries],
    }


def main() -> None:
    store_format = CollectionSpec(DIM, Codec.INT8, "f" * 64).format
    folder = HERE / f"format-{store_format}"
    store = Store(folder / "store")
    write(store, store_format)
    text_queries = TEXT_QUERIES if store_format > 2 else []  # format 2 is older than BM25
    queries = [tokens_of(5000 + i).round(3) for i in range(1, 4)]
    result = {
        "names": store.names(),
        "aliases": store.aliases(),
        "made_from": {name: store.made_from(name) if store_format > 2 else None for name in store.names()},
        "queries": [query.astype(float).round(3).tolist() for query in queries],
        "filters": FILTERS,
        "text_queries": text_queries,
        "collections": {name: expected(store, name, queries, text_queries) for name in store.names()},
    }
    (folder / "expected.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
