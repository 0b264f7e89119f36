"""Collections that tests build, and what is in them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tridex.building import (
    Embedder,
    Progress,
    Summary,
    build_collection,
    document_reading,
    new_collection_spec,
)
from tridex.encoding import Artifact, Encoder, create_encoder
from tridex.index import Collection, Store
from tridex.protocol.sources import open_source

WORDS = ["the", "capital", "of", "France", "is", "Paris", "river", "Seine", "remove", "directory", "custard", "sugar"]


def rows_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Documents of one to ninety words, so that some need several windows; each text begins with its number."""
    rng = random.Random(seed)
    return [
        {"_id": f"d{i}", "text": f"{i} {' '.join(rng.choices(WORDS, k=rng.randint(1, 90)))}", "metadata": {"n": i}}
        for i in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build(
    source: Path, store: Store, artifact: Artifact, name: str = "c", encoder: Encoder | None = None, **options: Any
) -> Summary:
    spec = new_collection_spec(artifact, **options)
    embed = Embedder(artifact, encoder or create_encoder(artifact), document_reading(spec, artifact.manifest))
    progress = Progress(quiet=True)
    return build_collection(open_source(source), store, name, spec, embed, progress=progress, documents_per_commit=10)


def contents(collection: Collection) -> dict[str, tuple[Any, ...]]:
    """Every column of every document, by id."""
    rows = collection.dataset.to_table().to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: tuple(row.values()) for row in rows}
