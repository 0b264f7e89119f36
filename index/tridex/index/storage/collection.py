"""The documents of one collection on disk: a Lance dataset, one row per document.

Lance gives what a store needs, so none of it is written here: every write is one transaction and makes a new version,
readers keep the version they opened, deletes are marks beside immutable files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.dataset import ColumnOrdering
from numpy.typing import NDArray

from tridex.index.errors import InvalidDocumentError
from tridex.index.ranking import Ranking
from tridex.kernels import Codebook

from .codebook_file import load_codebook, save_codebook
from .compaction import clean_up, compact, compact_some, is_compaction
from .duplicate_ids import is_newest
from .fields import FieldType, column_values, columns
from .file_errors import guarded, open_dataset, writing
from .filters import to_sql
from .metadata import check_metadata, decoded, encoded, sendable
from .spec import CollectionSpec, read_spec, schema_of
from .text_index import create_text_index, index_new_texts, search_texts

_DOCUMENT = ("id", "text", "metadata")

_ROWS_PER_REPAIR = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Document:
    """A document as the user gave it."""

    id: str
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What documents take memory for."""

    documents: int = 0
    tokens: int = 0
    id_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.documents + other.documents, self.tokens + other.tokens, self.id_bytes + other.id_bytes)


def write_empty(spec: CollectionSpec, folder: Path, codebook: Codebook | None = None) -> None:
    """Makes an empty dataset for documents of `spec`, with the codebook that its codec wants.

    Raises ValueError where the codec wants another codebook, or none.
    """
    spec.codec.check_codebook(codebook, spec.dim)
    if codebook is not None:
        spec = replace(spec, codebook=save_codebook(folder, codebook))
    schema = schema_of(spec)
    create_text_index(lance.write_dataset(schema.empty_table(), str(folder), schema=schema, mode="create"))


class Collection:
    """One collection at one version; writes through it move it to the version that they make."""

    def __init__(self, name: str, dataset: lance.LanceDataset) -> None:
        self.name = name
        self.dataset = dataset
        self.spec = read_spec(name, dataset)
        self.codebook = load_codebook(self.folder, self.spec.codebook) if self.spec.codebook else None

    @property
    def folder(self) -> Path:
        """Where it is kept; no other collection ever was there."""
        return Path(self.dataset.uri)

    def exists(self) -> bool:
        """False once it is dropped."""
        return self.folder.exists()

    @property
    def version(self) -> int:
        """The version that this object reads."""
        return int(self.dataset.version)

    @guarded
    def latest(self) -> Collection:
        """This collection at the newest version in the store."""
        return Collection(self.name, open_dataset(self.dataset.uri))

    @guarded
    def latest_version(self) -> int:
        """The newest version in the store, whoever wrote it (12 µs on a local disk)."""
        return int(self.dataset.latest_version)

    def at(self, version: int) -> Collection:
        """This collection as it was. Raises OSError or ValueError where that version is cleaned up."""
        return Collection(self.name, self.dataset.checkout_version(version))

    def fragments(self, ids: AbstractSet[int]) -> list[lance.LanceFragment]:
        """The store's files of rows that have these ids, in their order."""
        return [fragment for fragment in self.dataset.get_fragments() if fragment.fragment_id in ids]

    def compactions_since(self, version: int) -> list[int]:
        """The versions after `version`, up to this one, that moved rows and changed none (0.2 ms for each version).

        Raises OSError where one of them is cleaned up, and what else Lance raises where it cannot read one.
        """
        return [v for v in range(version + 1, self.version + 1) if is_compaction(self.dataset, v)]

    @writing
    def compact(self, *, copy_pages: bool = False) -> int:
        """Rewrites small and half deleted files (compaction.py); returns the version that this made, or found.

        Ids that are there twice are repaired first.
        """
        self.repair_doubles()
        self.dataset = compact(self.dataset, copy_pages=copy_pages)
        return self.version

    @writing
    def compact_some(self) -> bool:
        """Rewrites a few files where that is worth it (compaction.py), and may have to be called again; whether it was.

        For the one writer: who else writes meanwhile makes it raise StoreUnavailableError.
        """
        return compact_some(self.dataset)

    @writing
    def repair_doubles(self) -> int:
        """Deletes all rows but the newest of an id that is there more than once; returns how many."""
        ids, addresses = self.rows()
        older = addresses[~is_newest(ids, addresses)].tolist()
        for first in range(0, len(older), _ROWS_PER_REPAIR):
            these = ", ".join(map(str, older[first : first + _ROWS_PER_REPAIR]))
            self.dataset.delete(f"_rowaddr IN ({these})")
        if older:
            _log.warning(
                "collection %r: %d rows had ids that another row has too, as an earlier version could leave them; the "
                "newest row of each id stays",
                self.name,
                len(older),
            )
        return len(older)

    @guarded
    def rows(
        self, fragments: Sequence[lance.LanceFragment] | None = None
    ) -> tuple[pa.LargeStringArray, NDArray[np.uint64]]:
        """Ids and addresses of all live rows, or of those of these files, in the store's order."""
        heads = self.dataset.scanner(columns=["id"], fragments=fragments, with_row_address=True).to_table()
        return large_ids(heads), np.asarray(heads["_rowaddr"], np.uint64)

    @writing
    def clean_up(self, unread_for: timedelta) -> int:
        """Removes the versions that have not been the newest one for that long, and their files; returns the bytes."""
        return clean_up(self.dataset, unread_for)

    @writing
    def upsert(self, documents: Sequence[Document], embeddings: Iterable[NDArray[np.float32]]) -> int:
        """Inserts documents, replacing those whose id is there, in one transaction; returns the version it made.

        `embeddings` are the documents' token embeddings, [tokens, dim] each. Raises InvalidDocumentError where an id
        comes twice, where an array is not finite or not [tokens, dim], and as check_metadata does; then nothing is
        written.
        """
        rows = self._rows(documents, embeddings)
        self.dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        return self.version

    def append(self, documents: Sequence[Document], embeddings: Iterable[NDArray[np.float32]]) -> int:
        """Inserts documents whose ids are not there yet, which is not looked up; else as `upsert`."""
        self.dataset.insert(self._rows(documents, embeddings))
        return self.version

    def _rows(self, documents: Sequence[Document], embeddings: Iterable[NDArray[np.float32]]) -> pa.Table:
        seen: set[str] = set()
        for document in documents:
            if document.id in seen:
                raise InvalidDocumentError(f"id {document.id!r} comes twice in one upsert; expected distinct ids")
            seen.add(document.id)
        tokens, codes = [], []
        for document, array in zip(documents, embeddings, strict=True):
            if array.ndim != 2 or array.shape[1] != self.spec.dim:
                raise InvalidDocumentError(
                    f"embeddings of {document.id!r} have shape {array.shape}; expected [tokens, {self.spec.dim}]"
                )
            try:
                codes.append(self.spec.codec.encode(array, self.codebook).tobytes())
            except ValueError as error:
                raise InvalidDocumentError(f"embeddings of {document.id!r}: {error}") from error
            tokens.append(len(array))
        values = [column_values(self.spec.fields, document.id, document.metadata) for document in documents]
        return pa.table(
            {
                "id": [document.id for document in documents],
                "text": [document.text for document in documents],
                "metadata": [encoded(document.id, document.metadata) for document in documents],
                "tokens": tokens,
                "codes": codes,
                **{column: [row[i] for row in values] for i, column in enumerate(columns(self.spec.fields).values())},
            },
            schema=self.dataset.schema,
        )

    @guarded
    def search_texts(self, query: str, top_k: int, condition: str | None = None) -> Ranking:
        """The best `top_k` documents of a text by BM25 (texts.py), of those for which the SQL `condition` holds."""
        return search_texts(self.dataset, query, top_k, condition)

    @writing
    def index_new_texts(self) -> bool:
        """Brings new documents into the index that BM25 reads, where there are enough (texts.py); whether there were.

        Any thread or process may, beside writes.
        """
        return index_new_texts(self.dataset)

    def check_metadata(self, documents: Sequence[Document]) -> None:
        """Raises InvalidDocumentError where a declared field holds what is not of its type; others may hold anything
        that can be given back (metadata.py).

        A declared field may be absent or null.
        """
        for document in documents:
            check_metadata(document.id, document.metadata, self.spec.fields)

    @writing
    def delete(self, ids: Sequence[str]) -> int:
        """Deletes the documents of these ids, those there are, in one transaction; returns the version it made."""
        self.dataset.delete(_id_filter(ids))
        return self.version

    @writing
    def delete_matching(self, filters: Any) -> int:
        """Deletes the documents that match, in one transaction; returns the version it made."""
        self.dataset.delete(to_sql(filters, self.spec.fields))
        return self.version

    @guarded
    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """The documents of these ids, None where there is none."""
        rows = self.dataset.to_table(columns=list(_DOCUMENT), filter=_id_filter(ids))
        found = {document.id: document for document in _documents(rows)}
        return [found.get(key) for key in ids]

    @guarded
    def scroll(self, limit: int, after: str | None = None, filters: Any = None) -> list[Document]:
        """The first `limit` documents in the order of ids, of those that come after id `after` and match `filters`."""
        conditions = [] if filters is None else [to_sql(filters, self.spec.fields)]
        conditions += [] if after is None else [f"id > {_quoted(after)}"]
        rows = self.dataset.to_table(
            columns=list(_DOCUMENT),
            filter=" AND ".join(conditions) or None,
            order_by=[ColumnOrdering("id")],
            limit=limit,
        )
        return _documents(rows)

    @guarded
    def stored(self, places: Sequence[int]) -> tuple[list[Document], list[NDArray[np.float32]]]:
        """The documents at these places in the store's order, which a version keeps, and their token embeddings as the
        codec kept them, [tokens, dim] each."""
        rows = self.dataset.take(list(places), columns=[*_DOCUMENT, "codes"])
        width = self.spec.codec.bytes_per_token(self.spec.dim)
        codes = (np.frombuffer(code.as_buffer(), np.uint8).reshape(-1, width) for code in rows["codes"])
        embeddings = [self.spec.codec.decode(row, self.codebook) for row in codes]
        return _documents(rows.drop_columns("codes")), embeddings

    @guarded
    def matching_addresses(self, condition: str) -> NDArray[np.uint64]:
        """Where the rows lie for which this SQL, made by to_sql, holds."""
        rows = self.dataset.scanner(columns=[], filter=condition, with_row_address=True).to_table()
        return np.asarray(rows["_rowaddr"], np.uint64)

    @guarded
    def payload(self, addresses: NDArray[np.uint64]) -> tuple[list[str], list[str]]:
        """Texts and metadata (JSON) of the rows at these addresses (0.3 ms for ten rows)."""
        rows = self.dataset._take_rows(addresses.tolist(), columns=["text", "metadata"])
        return rows["text"].to_pylist(), [sendable(text) for text in rows["metadata"].to_pylist()]

    @guarded
    def size(self, fragments: Sequence[lance.LanceFragment] | None = None) -> Size:
        """What the collection holds, or these files of it."""
        size = Size()
        for rows in self.dataset.scanner(columns=["id", "tokens"], fragments=fragments).to_batches():
            tokens = int(np.asarray(rows["tokens"], np.int64).sum())
            size += Size(len(rows), tokens, pc.sum(pc.binary_length(rows["id"])).as_py() or 0)
        return size

    @guarded
    def lengths(self) -> NDArray[np.int64]:
        """Each document's tokens, in the store's order."""
        return np.asarray(self.dataset.scanner(columns=["tokens"]).to_table()["tokens"], np.int64)

    @guarded
    def count(self, filters: Any = None) -> int:
        """Documents in the collection, or those that match."""
        condition = None if filters is None else to_sql(filters, self.spec.fields)
        return int(self.dataset.count_rows(condition))


def _quoted(key: str) -> str:
    return FieldType.STR.sql(key)


def _id_filter(ids: Sequence[str]) -> str:
    """SQL that selects these ids."""
    quoted = ", ".join(map(_quoted, ids))
    return f"id IN ({quoted})" if quoted else "false"


def _documents(rows: pa.Table) -> list[Document]:
    return [Document(row["id"], row["text"], decoded(row["metadata"])) for row in rows.to_pylist()]


def large_ids(heads: pa.Table) -> pa.LargeStringArray:
    """The column of ids as one array."""
    return pa.concat_arrays(heads["id"].cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
