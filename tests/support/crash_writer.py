"""The process that the crash tests kill: it writes to a store at random and keeps a journal of what it was told.

A line of the journal says what is about to be written, another that the store acknowledged it. Both are in the kernel
before the next step, so a SIGKILL takes neither back.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tridex.index import Collection, CollectionSpec, Document, Store
from tridex.kernels import Codec

DIM = 8
NAME = "c"
SPEC = CollectionSpec(DIM, Codec.FLOAT32, "f" * 64)
IDS = [f"d{i:02}" for i in range(60)]

Rows = dict[str, int]
"""The revision of each document: text, metadata and embeddings follow from id and revision."""


class Operation(NamedTuple):
    """What a writer is about to do: the rows that it writes, the ids that it deletes."""

    name: str
    writes: Rows
    deletes: list[str]

    def after(self, rows: Rows) -> Rows:
        """The rows there are when it is done."""
        kept = {key: revision for key, revision in rows.items() if key not in self.deletes}
        return kept | self.writes


def embeddings_of(key: str, revision: int) -> NDArray[np.float32]:
    """Small integers, so that every sum is exact."""
    rng = np.random.default_rng([revision, *key.encode()])
    return rng.integers(-3, 4, (1 + (len(key) + revision) % 6, DIM)).astype(np.float32)


def document(key: str, revision: int) -> Document:
    return Document(key, f"{key} in revision {revision}", {"revision": revision})


def _upsert(collection: Collection, operation: Operation) -> None:
    rows = operation.writes.items()
    collection.upsert([document(*row) for row in rows], [embeddings_of(*row) for row in rows])


def _delete(collection: Collection, operation: Operation) -> None:
    collection.delete(operation.deletes)


def _compact(collection: Collection, operation: Operation) -> None:
    del operation
    collection.compact()


def _clean_up(collection: Collection, operation: Operation) -> None:
    del operation
    collection.clean_up(timedelta(0))


OPERATIONS: dict[str, tuple[int, Callable[[Collection, Operation], None]]] = {
    "upsert": (5, _upsert),
    "delete": (2, _delete),
    "compact": (3, _compact),
    "clean up": (2, _clean_up),
}
"""How often, and how: what else writes to a store joins the list here, and `plan` says what it writes."""


def plan(rng: random.Random, revision: int) -> Operation:
    """The next operation."""
    names = list(OPERATIONS)
    (name,) = rng.choices(names, [OPERATIONS[name][0] for name in names])
    some = rng.sample(IDS, rng.randint(1, 12))
    return Operation(name, dict.fromkeys(some, revision) if name == "upsert" else {}, some if name == "delete" else [])


def write_until_killed(store: str, journal: str, seed: int) -> None:
    """Never returns."""
    rng = random.Random(seed)
    collection = Store(store).open(NAME)
    with Path(journal).open("ab", buffering=0) as lines:
        for step in range(2**30):
            operation = plan(rng, revision=seed * 10_000 + step)
            _say(lines.fileno(), {"begin": operation})
            OPERATIONS[operation.name][1](collection, operation)
            _say(lines.fileno(), {"acknowledged": collection.version})


def _say(journal: int, line: dict[str, Any]) -> None:
    os.write(journal, json.dumps(line).encode() + b"\n")
