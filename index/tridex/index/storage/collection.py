"""One collection on disk: a Lance dataset, one row per document.

Lance gives what a store needs, so none of it is written here: every write is one transaction and makes a new version,
readers keep the version they opened, deletes are marks beside immutable files.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.dataset import ColumnOrdering
from numpy.typing import NDArray

from tridex.common.field_inference import INFERRED_DOCUMENTS
from tridex.common.fields import Fields, FieldType
from tridex.index.ranking import Ranking

from .checksums import files_of, record_sums
from .codebook_file import check_codebook, load_codebook
from .compaction import clean_up, compact, compact_some, is_compaction
from .document_rows import DOCUMENT_COLUMNS, Document, decode_documents, encode_documents, encode_metadata
from .duplicate_ids import delete_older
from .field_changes import change_fields, changed_fields
from .field_values import FacetValue, bounds, count_values
from .fields import sql_literal
from .file_errors import reading, storage_errors, writing
from .filters import to_sql
from .inference import DocumentInference
from .lance_session import forget_cached, has_forgotten_caches, open_dataset
from .metadata import check_metadata, sendable
from .spec import read_spec
from .text_index import index_new_texts, search_texts

if TYPE_CHECKING:
    from tridex.kernels import Codebook, TokenEmbeddings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Size:
    """What documents take memory for."""

    documents: int = 0
    tokens: int = 0
    id_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.documents + other.documents, self.tokens + other.tokens, self.id_bytes + other.id_bytes)


class Collection:
    """One collection at one version; writes through it move it to the version that they make.

    Every method that reads or writes files raises as `storage_errors` (file_errors.py).

    Attributes:
        name: The collection's own name, not an alias.
        dataset: Lance's, at this object's version.
        spec: What all its documents have in common.
    """

    def __init__(self, name: str, dataset: lance.LanceDataset) -> None:
        self.name = name
        self.dataset = dataset
        self.spec = read_spec(name, dataset)
        if self.spec.codebook:
            check_codebook(self.folder, self.spec.codebook)

    @cached_property
    def codebook(self) -> Codebook | None:
        """What a residual codec decodes with, on the CPU; None for the other codecs."""
        return load_codebook(self.folder, self.spec.codebook) if self.spec.codebook else None

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

    @reading
    def latest(self) -> Collection:
        """This collection at the newest version in the store."""
        return Collection(self.name, open_dataset(self.dataset.uri))

    @reading
    def renew(self) -> None:
        """Opens the dataset again, at the same version, where it has caches that were forgotten (lance_session.py)."""
        if has_forgotten_caches(self.dataset):
            self.dataset = open_dataset(self.dataset.uri, self.version)

    @reading
    def latest_version(self) -> int:
        """The newest version in the store, whoever wrote it (12 µs on a local disk)."""
        return int(self.dataset.latest_version)

    def at(self, version: int) -> Collection:
        """This collection as it was. Raises OSError or ValueError where that version is cleaned up."""
        return Collection(self.name, self.dataset.checkout_version(version))

    def fragments(self, ids: AbstractSet[int]) -> list[lance.LanceFragment]:
        """The dataset's fragments (files of rows) of these ids, in the store's order."""
        return [fragment for fragment in self.dataset.get_fragments() if fragment.fragment_id in ids]

    def compactions_since(self, version: int) -> list[int]:
        """The versions after `version`, up to this one, that moved rows and changed none (0.2 ms for each version).

        Raises OSError where one of them is cleaned up, and what else Lance raises where it cannot read one.
        """
        return [v for v in range(version + 1, self.version + 1) if is_compaction(self.dataset, v)]

    @writing
    def compact(self, *, copy_pages: bool = False) -> int:
        """Rewrites small and half deleted files (compaction.py), after duplicate ids are repaired.

        Args:
            copy_pages: Copies pages without deleted rows undecoded; for files of large writes.

        Returns:
            The version that this made, or the newest one where nothing was worth rewriting.
        """
        self.repair_duplicates()
        self.dataset = compact(self.dataset, copy_pages=copy_pages)
        return self.version

    @writing
    def compact_some(self) -> bool:
        """Rewrites a few files where that is worth it (compaction.py); for the one writer.

        Returns:
            Whether it did, so whether to call it again.

        Raises:
            StoreUnavailableError: Somebody else wrote meanwhile.
        """
        return compact_some(self.dataset)

    @writing
    def repair_duplicates(self) -> int:
        """Deletes all rows but the newest of an id that is there more than once; returns how many."""
        deleted = delete_older(self.dataset, *self.rows())
        if deleted:
            _log.warning(
                "collection %r: %d rows had ids that another row has too, as an earlier version could leave them; the "
                "newest row of each id stays",
                self.name,
                deleted,
            )
        return deleted

    @reading
    def rows(
        self, fragments: Sequence[lance.LanceFragment] | None = None
    ) -> tuple[pa.LargeStringArray, NDArray[np.uint64]]:
        """Ids and addresses of the live rows, in the store's order.

        Args:
            fragments: The files to read; all of them where None.

        Returns:
            Ids [rows], and uint64 [rows]: Lance's row addresses.
        """
        heads = self.dataset.scanner(columns=["id"], fragments=fragments, with_row_address=True).to_table()
        return large_ids(heads), np.asarray(heads["_rowaddr"], np.uint64)

    @writing
    def sync(self) -> None:
        """Makes the newest version survive a loss of power, whoever wrote it; as every write does."""

    @writing
    def clean_up(self, unread_for: timedelta) -> int:
        """Removes versions that have not been the newest one for that long; returns the bytes of their files."""
        self.sync()  # A loss of power must not bring back a version whose files are gone.
        freed = clean_up(self.dataset, unread_for)
        if freed:
            # Lance's caches keep what they hold of removed files, open, until they are full.
            forget_cached()
        return freed

    @reading
    def files(self) -> list[str]:
        """Every file that this version consists of, by its path in `folder`."""
        return files_of(self.dataset, self.spec.codebook)

    def record_checksums(self, most_bytes: float = math.inf) -> bool:
        """Records the SHA-256 of files that have none yet, for `check_store` (checksums.py).

        Args:
            most_bytes: When so many were read, the rest is left to the next call.

        Returns:
            Whether a rest is left.
        """
        with storage_errors(self.name, self.folder, writes=True):
            return record_sums(self.folder, self.files(), most_bytes)

    @writing
    def upsert(self, documents: Sequence[Document], embeddings: Iterable[TokenEmbeddings]) -> int:
        """Inserts documents, replacing those of the same ids, in one transaction.

        Args:
            documents: Of distinct ids.
            embeddings: Each document's token embeddings, float32 [tokens, dim].

        Returns:
            The version that this made.

        Raises:
            InvalidDocumentError: An id comes twice, an array is not finite or not [tokens, dim], or as check_metadata.
                Nothing is written then.
        """
        rows = self.rows_of(documents, embeddings)
        self.dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
        return self.version

    def rows_of(self, documents: Sequence[Document], embeddings: Iterable[TokenEmbeddings]) -> pa.Table:
        """The rows of documents, for `append_rows`. Args and Raises as `upsert`."""
        return encode_documents(documents, embeddings, self.spec, self.codebook, self.dataset.schema)

    def append(self, documents: Sequence[Document], embeddings: Iterable[TokenEmbeddings]) -> int:
        """Inserts documents whose ids are not there yet, which is not looked up; else as `upsert`."""
        return self.append_rows(self.rows_of(documents, embeddings))

    @writing
    def append_rows(self, rows: pa.Table) -> int:
        """Inserts rows that `rows_of` made, as `append`; returns the version that this made."""
        self.dataset.insert(rows)
        return self.version

    @reading
    def search_texts(self, query: str, top_k: int, condition: str | None = None) -> Ranking:
        """Ranks documents by BM25 (text_index.py).

        Args:
            query: Any text; its words count.
            top_k: Most documents to return.
            condition: SQL that `to_sql` made; only documents for which it holds are ranked.
        """
        return search_texts(self.dataset, query, top_k, condition)

    @writing
    def index_new_texts(self) -> bool:
        """Brings new documents into the index that BM25 reads, where there are enough of them (text_index.py).

        Any thread or process may, beside writes.

        Returns:
            Whether there were enough.
        """
        return index_new_texts(self.dataset)

    def check_metadata(self, documents: Sequence[Document]) -> None:
        """Raises InvalidDocumentError where a document's metadata does not fit this collection's fields."""
        for document in documents:
            check_metadata(self.spec.fields, document.id, document.metadata)

    @writing
    def delete(self, ids: Sequence[str]) -> int:
        """Deletes the documents of these ids that exist, in one transaction; returns the version that this made."""
        self.dataset.delete(_id_filter(ids))
        return self.version

    @writing
    def delete_matching(self, filters: Any) -> int:
        """Deletes the documents that match (filters.py), in one transaction; returns the version that this made.

        Raises:
            InvalidFilterError: The filter is malformed, or about a field that is not declared.
        """
        self.dataset.delete(to_sql(filters, self.spec))
        return self.version

    @writing
    def clear(self) -> int:
        """Deletes every document, in one transaction; returns the version that this made."""
        self.dataset.delete("true")
        return self.version

    @writing
    def update_metadata(self, changes: Mapping[str, Mapping[str, Any]], most_bytes: int | None = None) -> int:
        """Changes the metadata of documents, in one transaction; nothing is encoded.

        Args:
            changes: By id: keys that get another value, or go where it is None. Other keys stay. An id that is not
                there is left out.
            most_bytes: Of a document's metadata as JSON, after the change; None for no limit.

        Returns:
            How many documents there were.

        Raises:
            InvalidDocumentError: As check_metadata. Nothing is written then.
        """
        return self._update(_id_filter([*changes]), changes.__getitem__, most_bytes)

    @writing
    def update_metadata_matching(self, filters: Any, change: Mapping[str, Any], most_bytes: int | None = None) -> int:
        """`update_metadata` of the documents that match (filters.py).

        Raises:
            InvalidFilterError: The filter is malformed, or about what is no field.
            InvalidDocumentError: As check_metadata.
        """
        return self._update(to_sql(filters, self.spec), lambda _: change, most_bytes)

    def _update(self, condition: str, change: Callable[[str], Mapping[str, Any]], most_bytes: int | None) -> int:
        rows = self.dataset.to_table(columns=["id", "metadata"], filter=condition)
        documents = [
            replace(document, metadata=_merged(document.metadata, change(document.id)))
            for document in decode_documents(rows)
        ]
        if documents:
            if (fields := self.inferred_fields(documents)) != self.spec.fields:
                fitted = self.change_fields(fields)
                self.dataset, self.spec = fitted.dataset, fitted.spec
            changed = encode_metadata(documents, self.spec, self.dataset.schema, most_bytes)
            self.dataset.merge_insert("id").when_matched_update_all().execute(changed)
        return len(documents)

    @writing
    def change_fields(self, changes: Mapping[str, FieldType | None]) -> Collection:
        """Gives fields, new ones too, another type, or lets them go where it is None (field_changes.py).

        Returns:
            The collection with these fields.

        Raises:
            InvalidFieldError: A stored value does not fit its field, or a field to let go is none. Nothing is changed.
        """
        fields = changed_fields(self.spec.fields, changes)
        if fields != self.spec.fields:
            change_fields(self.dataset, self.spec, fields)
        return self.latest()

    def inferred_fields(self, documents: Sequence[Document]) -> Fields:
        """The fields that the collection has with these documents, which are its first (inference.py); those that it
        has where it does not infer any, or holds many documents already.

        Raises:
            InvalidDocumentError: A document's metadata is of another type than the documents' before it.
        """
        if not self.spec.infers_fields:
            return self.spec.fields
        known = DocumentInference(self.spec.fields)
        known.add_all(documents)
        if known.fields == self.spec.fields or self.count() >= INFERRED_DOCUMENTS:
            return self.spec.fields
        # New keys may be no fields for what is stored already.
        stored = DocumentInference(self.spec.fields)
        stored.add_all([*self.scroll(INFERRED_DOCUMENTS), *documents])
        return stored.fields

    @reading
    def existing(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that documents have."""
        return {*self.dataset.to_table(columns=["id"], filter=_id_filter(ids))["id"].to_pylist()}

    @reading
    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """The documents of these ids, None where there is none."""
        rows = self.dataset.to_table(columns=list(DOCUMENT_COLUMNS), filter=_id_filter(ids))
        found = {document.id: document for document in decode_documents(rows)}
        return [found.get(key) for key in ids]

    @reading
    def get_embeddings(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The token embeddings of the documents of these ids that there are, as the codec kept them: [tokens, dim]."""
        rows = self.dataset.to_table(columns=["id", "codes"], filter=_id_filter(ids))
        return dict(zip(rows["id"].to_pylist(), self._decoded(rows), strict=True))

    @reading
    def facet(self, field: str, filters: Any = None, limit: int = 10) -> list[FacetValue]:
        """The most frequent values of a field, in all documents or in those that match.

        Raises:
            InvalidFieldError: There is no such field.
            InvalidFilterError: The filter is malformed, or about what is no field.
        """
        condition = None if filters is None else to_sql(filters, self.spec)
        return count_values(self.dataset, self.spec, field, condition, limit)

    @reading
    def min_max(self, field: str, filters: Any = None) -> tuple[Any, Any] | None:
        """The smallest and the largest value of a field, None where no document has one. Raises as `facet`."""
        condition = None if filters is None else to_sql(filters, self.spec)
        return bounds(self.dataset, self.spec, field, condition)

    @reading
    def scroll(self, limit: int, after: str | None = None, filters: Any = None) -> list[Document]:
        """Reads documents in the order of ids, a page at a time.

        Args:
            limit: Most documents to return.
            after: The last id of the page before; None for the first page.
            filters: Only documents that match (filters.py).

        Raises:
            InvalidFilterError: The filter is malformed, or about a field that is not declared.
        """
        conditions = [] if filters is None else [to_sql(filters, self.spec)]
        conditions += [] if after is None else [f"id > {_quoted(after)}"]
        rows = self.dataset.to_table(
            columns=list(DOCUMENT_COLUMNS),
            filter=" AND ".join(conditions) or None,
            order_by=[ColumnOrdering("id")],
            limit=limit,
        )
        return decode_documents(rows)

    @reading
    def stored(self, places: Sequence[int]) -> tuple[list[Document], list[NDArray[np.float32]]]:
        """Documents with their token embeddings, by position.

        Args:
            places: Positions in the store's order, which stays the same for one version.

        Returns:
            The documents, and for each its token embeddings as the codec kept them, float32 [tokens, dim].
        """
        rows = self.dataset.take(list(places), columns=[*DOCUMENT_COLUMNS, "codes"])
        return decode_documents(rows.drop_columns("codes")), self._decoded(rows)

    def _decoded(self, rows: pa.Table) -> list[NDArray[np.float32]]:
        """The token embeddings of rows with the column codes."""
        from tridex.kernels import decode  # and torch, which processes that read no codes do without

        width = self.spec.codec.bytes_per_token(self.spec.dim)
        codes = (np.frombuffer(code.as_buffer(), np.uint8).reshape(-1, width) for code in rows["codes"])
        return [decode(self.spec.codec, row, self.codebook) for row in codes]

    @reading
    def matching_addresses(self, condition: str) -> NDArray[np.uint64]:
        """uint64 [rows]: addresses of the rows for which this SQL, made by `to_sql`, holds."""
        rows = self.dataset.scanner(columns=[], filter=condition, with_row_address=True).to_table()
        return np.asarray(rows["_rowaddr"], np.uint64)

    @reading
    def payload(self, addresses: NDArray[np.uint64]) -> tuple[list[str], list[str]]:
        """Texts and metadata (JSON) of the rows at these addresses (0.3 ms for ten rows)."""
        rows = self.dataset._take_rows(addresses.tolist(), columns=["text", "metadata"])
        return rows["text"].to_pylist(), [sendable(text) for text in rows["metadata"].to_pylist()]

    @reading
    def size(self, fragments: Sequence[lance.LanceFragment] | None = None) -> Size:
        """What the collection holds, or these fragments of it."""
        size = Size()
        for rows in self.dataset.scanner(columns=["id", "tokens"], fragments=fragments).to_batches():
            tokens = int(np.asarray(rows["tokens"], np.int64).sum())
            size += Size(len(rows), tokens, pc.sum(pc.binary_length(rows["id"])).as_py() or 0)
        return size

    @reading
    def lengths(self) -> NDArray[np.int64]:
        """int64 [documents]: each document's number of tokens, in the store's order."""
        return np.asarray(self.dataset.scanner(columns=["tokens"]).to_table()["tokens"], np.int64)

    @reading
    def count(self, filters: Any = None) -> int:
        """Documents in the collection, or those that match."""
        condition = None if filters is None else to_sql(filters, self.spec)
        return int(self.dataset.count_rows(condition))


def _merged(metadata: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**metadata, **change}.items() if key not in change or value is not None}


def _quoted(key: str) -> str:
    return sql_literal(FieldType.STR, key)


def _id_filter(ids: Sequence[str]) -> str:
    """SQL that selects these ids."""
    quoted = ", ".join(map(_quoted, ids))
    return f"id IN ({quoted})" if quoted else "false"


def large_ids(heads: pa.Table) -> pa.LargeStringArray:
    """The column of ids as one array."""
    return pa.concat_arrays(heads["id"].cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
