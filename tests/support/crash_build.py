"""The bulk build that the crash tests kill: one collection after another, each taking the alias of the one before.

What a build writes follows from its revision: the documents of the collection, their source, the collection's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.building import Progress, build_collection
from tridex.index import CollectionSpec, Document, Store
from tridex.index.storage import unfinished
from tridex.protocol.sources import open_source

ALIAS = "built"
KEYS = [f"s{i:02}" for i in range(40)]
"""The ids of every build's documents, in the order of the source."""

_PREFIX = "build-"
_DOCUMENTS_PER_COMMIT = 5


def name_of(revision: int) -> str:
    return f"{_PREFIX}{revision}"


def built(store: Store) -> list[str]:
    """The finished ones."""
    return [name for name in store.names() if name.startswith(_PREFIX)]


def build(
    store: Store,
    spec: CollectionSpec,
    documents: Sequence[Document],
    revision: int,
    encode: Callable[[str], NDArray[np.float32]],
) -> None:
    """As `tridex index build --alias`, and drops the ones before; `encode` is called for every text, in their order."""
    # So that small fragments are merged within the few commits that there are.
    unfinished._COMMITS_PER_FRAGMENT = 3

    def encode_all(texts: Sequence[str], windows: bool) -> Iterator[NDArray[np.float32]]:  # noqa: ARG001
        return map(encode, texts)

    source = _source(store.folder, documents)
    options: dict[str, Any] = {"progress": Progress(quiet=True), "documents_per_commit": _DOCUMENTS_PER_COMMIT}
    build_collection(open_source(source), store, name_of(revision), spec, encode_all, **options)
    store.set_alias(ALIAS, name_of(revision))
    for before in set(built(store)) - {name_of(revision)}:
        store.drop(before)


def _source(folder: Path, documents: Sequence[Document]) -> Path:
    path = folder.parent / "source.jsonl"
    path.write_text("".join(json.dumps({"id": d.id, "text": d.text, "metadata": d.metadata}) + "\n" for d in documents))
    return path
