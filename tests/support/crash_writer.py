"""The process that the crash tests kill: it writes to a store at random and keeps a journal of what it was told.

A line of the journal says what is about to be written, another that the store acknowledged it. Both are in the kernel
before the next step, so a SIGKILL takes neither back. A build says of every document that it encodes it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import crash_build
import numpy as np
from numpy.typing import NDArray

from tridex.index import CollectionSpec, Document, Store
from tridex.index.storage import compaction, text_index
from tridex.kernels import Codec

DIM = 8
NAME = "c"
SPEC = CollectionSpec(DIM, Codec.FLOAT32, "f" * 64)
IDS = [f"d{i:02}" for i in range(60)]

Rows = dict[str, int]
"""The revision of each document: text, metadata and embeddings follow from id and revision."""


class Operation(NamedTuple):
    """What a writer is about to do: the rows that it writes, the ids that it deletes, or what it builds beside them."""

    name: str
    revision: int
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


class Writer:
    """A store, what is written to it at random, and the journal of that."""

    def __init__(self, store: Store, journal: BinaryIO) -> None:
        self._store = store
        self._journal = journal
        self._collection = store.open(NAME)

    def carry_out(self, operation: Operation) -> None:
        self._say({"begin": operation})
        OPERATIONS[operation.name][1](self, operation)
        self._say({"acknowledged": self._collection.version})

    def upsert(self, operation: Operation) -> None:
        rows = operation.writes.items()
        self._collection.upsert([document(*row) for row in rows], [embeddings_of(*row) for row in rows])

    def delete(self, operation: Operation) -> None:
        self._collection.delete(operation.deletes)

    def compact(self, operation: Operation) -> None:
        del operation
        self._collection.compact()

    def merge_files(self, operation: Operation) -> None:
        del operation
        self._collection.compact_some()

    def index_texts(self, operation: Operation) -> None:
        del operation
        self._collection.index_new_texts()

    def clean_up(self, operation: Operation) -> None:
        del operation
        self._collection.clean_up(timedelta(0))

    def build(self, operation: Operation) -> None:
        def encode(text: str) -> NDArray[np.float32]:
            key = text.split()[0]
            self._say({"encoded": [operation.revision, key]})
            return embeddings_of(key, operation.revision)

        documents = [document(key, operation.revision) for key in crash_build.KEYS]
        crash_build.build(self._store, SPEC, documents, operation.revision, encode)

    def _say(self, line: dict[str, Any]) -> None:
        self._journal.write(json.dumps(line).encode() + b"\n")


OPERATIONS: dict[str, tuple[int, Callable[[Writer, Operation], None]]] = {
    "upsert": (10, Writer.upsert),
    "delete": (4, Writer.delete),
    "compact": (6, Writer.compact),
    "merge files": (4, Writer.merge_files),
    "index texts": (4, Writer.index_texts),
    "clean up": (4, Writer.clean_up),
    "build": (1, Writer.build),
}
"""How often, and how: what else writes to a store joins the list here, and `plan` says what it writes."""


def plan(rng: random.Random, revision: int) -> Operation:
    """The next operation."""
    names = list(OPERATIONS)
    (name,) = rng.choices(names, [OPERATIONS[name][0] for name in names])
    some = rng.sample(IDS, rng.randint(1, 12))
    writes = dict.fromkeys(some, revision) if name == "upsert" else {}
    return Operation(name, revision, writes, some if name == "delete" else [])


def write_until_killed(store: str, journal: str, seed: int, unfinished: Operation | None) -> None:
    """Begins with the build that was killed, if one was; never returns."""
    # So that little is worth a merge of files, and an extension of the text index.
    compaction._MIN_FILES, text_index._MIN_NEW_DOCUMENTS = 3, 10
    rng = random.Random(seed)
    with Path(journal).open("ab", buffering=0) as lines:
        writer = Writer(Store(store), lines)
        if unfinished is not None:
            writer.carry_out(unfinished)
        for step in range(2**30):
            writer.carry_out(plan(rng, revision=seed * 10_000 + step))
