"""The documents of every collection on disk: one Lance dataset per collection, one row per document.

Lance gives what a store needs, so none of it is written here: every write is one transaction and makes a new version,
readers keep the version they opened, deletes are marks beside immutable files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tridex.kernels import Codec

from .errors import (
    CheckpointMismatchError,
    CollectionExistsError,
    CollectionNotFoundError,
    InvalidDocumentError,
    TokenIndexError,
)

_SPEC_KEY = b"tridex"
_FORMAT = 1
_SUFFIX = ".lance"


@dataclass(frozen=True)
class CollectionSpec:
    """What every document of a collection has in common; fixed when the collection is created."""

    dim: int
    codec: Codec
    fingerprint: str
    """The checkpoint that made the token embeddings."""
    format: int = _FORMAT


@dataclass(frozen=True)
class Document:
    """A document as the user gave it."""

    id: str
    text: str
    metadata: dict[str, Any]


def _schema(spec: CollectionSpec) -> pa.Schema:
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("text", pa.large_string(), nullable=False),
            pa.field("metadata", pa.large_string(), nullable=False),
            pa.field("tokens", pa.int32(), nullable=False),
            # One document's codes, [tokens, bytes per token], row after row.
            pa.field("codes", pa.large_binary(), nullable=False),
        ],
        metadata={_SPEC_KEY: json.dumps({**asdict(spec), "codec": spec.codec.value}).encode()},
    )


class Collection:
    """One collection at one version; writes through it move it to the version that they make."""

    def __init__(self, name: str, dataset: lance.LanceDataset) -> None:
        self.name = name
        self.dataset = dataset
        self.spec = _spec(name, dataset)

    @property
    def version(self) -> int:
        """The version that this object reads."""
        return int(self.dataset.version)

    def latest_version(self) -> int:
        """The newest version in the store, whoever wrote it (12 µs on a local disk)."""
        return int(self.dataset.latest_version)

    def check_fingerprint(self, fingerprint: str) -> None:
        """Raises CheckpointMismatchError unless this collection was made with the checkpoint of that fingerprint."""
        if fingerprint != self.spec.fingerprint:
            raise CheckpointMismatchError(
                f"collection {self.name!r} was indexed with checkpoint {self.spec.fingerprint[:12]}, the served "
                f"encoder is {fingerprint[:12]}: index the documents into another collection, or serve that checkpoint"
            )

    def upsert(self, documents: Sequence[Document], embeddings: Sequence[NDArray[np.float32]]) -> int:
        """Inserts documents, replacing those whose id is there, in one transaction; returns the version it made.

        `embeddings` are the documents' token embeddings, [tokens, dim] each. Raises InvalidDocumentError where an id
        comes twice or an array is not finite or not [tokens, dim]; then nothing is written.
        """
        seen: set[str] = set()
        for document in documents:
            if document.id in seen:
                raise InvalidDocumentError(f"id {document.id!r} comes twice in one upsert; expected distinct ids")
            seen.add(document.id)
        codes = []
        for document, array in zip(documents, embeddings, strict=True):
            if array.ndim != 2 or array.shape[1] != self.spec.dim:
                raise InvalidDocumentError(
                    f"embeddings of {document.id!r} have shape {array.shape}; expected [tokens, {self.spec.dim}]"
                )
            try:
                codes.append(self.spec.codec.encode(array).tobytes())
            except ValueError as error:
                raise InvalidDocumentError(f"embeddings of {document.id!r}: {error}") from error
        rows = pa.table(
            {
                "id": [document.id for document in documents],
                "text": [document.text for document in documents],
                "metadata": [json.dumps(document.metadata, ensure_ascii=False) for document in documents],
                "tokens": [len(array) for array in embeddings],
                "codes": codes,
            },
            schema=self.dataset.schema,
        )
        self.dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        return self.version

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes the documents of these ids, those there are, in one transaction; returns the version it made."""
        self.dataset.delete(_id_filter(ids))
        return self.version

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """The documents of these ids, None where there is none."""
        rows = self.dataset.to_table(columns=["id", "text", "metadata"], filter=_id_filter(ids))
        found = {document.id: document for document in _documents(rows)}
        return [found.get(key) for key in ids]

    def payload(self, addresses: NDArray[np.uint64]) -> tuple[list[str], list[str]]:
        """Texts and metadata (JSON) of the rows at these addresses (0.3 ms for ten rows)."""
        rows = self.dataset._take_rows(addresses.tolist(), columns=["text", "metadata"])
        return rows["text"].to_pylist(), rows["metadata"].to_pylist()

    def count(self) -> int:
        """Documents in the collection."""
        return int(self.dataset.count_rows())


class Store:
    """All collections in one folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def names(self) -> list[str]:
        """The collections there are, sorted."""
        return sorted(p.name.removesuffix(_SUFFIX) for p in self.folder.glob(f"*{_SUFFIX}"))

    def create(self, name: str, spec: CollectionSpec) -> Collection:
        """Makes an empty collection. Raises CollectionExistsError where the name is taken."""
        schema = _schema(spec)
        try:
            dataset = lance.write_dataset(schema.empty_table(), self._path(name), schema=schema, mode="create")
        except (OSError, ValueError) as error:
            if name in self.names():
                raise CollectionExistsError(f"collection {name!r} exists already") from error
            raise
        return Collection(name, dataset)

    def open(self, name: str) -> Collection:
        """The collection at its latest version. Raises CollectionNotFoundError."""
        if name not in self.names():
            there = ", ".join(self.names()) or "none"
            raise CollectionNotFoundError(f"collection {name!r} does not exist; there are: {there}")
        return Collection(name, lance.dataset(self._path(name)))

    def _path(self, name: str) -> str:
        return str(self.folder / f"{name}{_SUFFIX}")


def _spec(name: str, dataset: lance.LanceDataset) -> CollectionSpec:
    raw = (dataset.schema.metadata or {}).get(_SPEC_KEY)
    if raw is None:
        raise TokenIndexError(f"collection {name!r}: {dataset.uri} is a Lance dataset that Tridex did not write")
    fields = json.loads(raw)
    if fields["format"] != _FORMAT:
        raise TokenIndexError(
            f"collection {name!r} has store format {fields['format']}; this version of Tridex reads format {_FORMAT}"
        )
    return CollectionSpec(**{**fields, "codec": Codec(fields["codec"])})


def _id_filter(ids: Sequence[str]) -> str:
    """SQL that selects these ids. Quotes are doubled, the one character with a meaning inside a SQL string."""
    quoted = ", ".join("'" + key.replace("'", "''") + "'" for key in ids)
    return f"id IN ({quoted})" if quoted else "false"


def _documents(rows: pa.Table) -> list[Document]:
    return [Document(row["id"], row["text"], json.loads(row["metadata"])) for row in rows.to_pylist()]
