"""Reading everything that a store holds, to name what is corrupt in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from tridex.index.errors import CollectionNotFoundError, CorruptCollectionError, StoreUnavailableError, TokenIndexError

from .checksums import SUMS, read_sums, sha256_of
from .collection import Collection
from .failure_kinds import is_of_storage, reason_of
from .file_errors import storage_errors
from .lance_session import open_dataset
from .registry import UNREADABLE, Registry
from .root import Store

_ROWS_PER_READ = 256
"""Rows that are read at a time: 25 MB of float32 codes of 200 tokens."""

_NAMED_IDS = 5


@dataclass(frozen=True)
class Corruption:
    """One thing that is wrong in a store.

    Attributes:
        collection: The name of the collection, or of the alias.
        file: The file, where one is known to be at fault.
        rows: The documents that are in it, or those that cannot be read, in words; empty where no rows are concerned.
        reason: What is wrong.
    """

    collection: str
    file: str | None
    rows: str
    reason: str


@dataclass
class Checked:
    """What was read, and what of it is corrupt."""

    collections: int = 0
    documents: int = 0
    files: int = 0
    bytes: int = 0
    without_sum: int = 0
    """Files whose SHA-256 nobody recorded: a changed bit in them may go unseen."""
    formats: dict[int, int] = field(default_factory=dict)
    """How many collections there are of each store format (spec.py)."""
    corrupt: list[Corruption] = field(default_factory=list)

    def read_file(self, path: Path, sha256: str | None) -> str | None:
        """Reads a file; what is wrong with it, where it cannot be read or had another SHA-256."""
        self.files += 1
        try:
            self.bytes += path.stat().st_size
            found = sha256_of(path)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        changed = sha256 not in (None, found)
        return f"its SHA-256 is {found[:12]}..., and was {str(sha256)[:12]}... when it was written" if changed else None

    def add(self, other: Checked) -> None:
        self.collections += other.collections
        self.documents += other.documents
        self.files += other.files
        self.bytes += other.bytes
        self.without_sum += other.without_sum
        for store_format, count in other.formats.items():
            self.formats[store_format] = self.formats.get(store_format, 0) + count
        self.corrupt += other.corrupt


def check_store(store: Store, progress: Callable[[str], None] = lambda _: None) -> Checked:
    """Reads every collection of a store at its newest version: every file, every row. Nothing is written.

    Others may write meanwhile.

    Args:
        progress: Called with the name of every collection before it is read.

    Raises:
        CollectionNotFoundError: The store's folder is not there.
        StoreUnavailableError: Something could not be read just now, and is not known to be corrupt.
    """
    if not store.folder.is_dir():
        raise CollectionNotFoundError(f"the store {store.folder} is not there; expected a folder with collections")
    checked = Checked()
    registry = Registry(store.folder / "names")
    entries = registry.all_at_once()
    for name, read in entries.items():
        entry = read
        if read == UNREADABLE:
            try:
                store.is_corrupt_alias(name)  # raises where it may be a collection's
                entry = registry.get(name) or read
            except CorruptCollectionError as error:
                checked.corrupt.append(Corruption(name, str(registry.path(name)), "", str(error)))
        if entry.alias_of and entry.alias_of not in entries and registry.get(name) == entry:
            reason = f"it is an alias of {entry.alias_of!r}, which does not exist"
            checked.corrupt.append(Corruption(name, str(registry.path(name)), "", reason))
        elif entry.folder and not entry.built_from:
            progress(name)
            checked.add(_check_collection(store, name))
    for folder in store.unnamed():
        name = folder.stem.rpartition("-")[0]
        if entries.get(name) == UNREADABLE:
            continue  # whose corruption says what brings it back
        reason = (
            f"no name leads to it: to have it back, make the file {registry.path(name)} say "
            f"{json.dumps({'folder': folder.name})}; remove it where it is not wanted"
        )
        checked.corrupt.append(Corruption(name, str(folder), "", reason))
    return checked


def _check_collection(store: Store, name: str) -> Checked:
    checked = Checked(collections=1)
    try:
        folder = store.resolve(name).folder
        found = list(_corruptions(name, folder, checked))
        gone = {corruption.file for corruption in found if corruption.file and not Path(corruption.file).exists()}
        # Files of the version that was read may have been cleaned up since: a newer one is whole without them.
        needed = gone
        if gone and folder.exists():
            needed = {str(folder / file) for file in _needed(store.open(name), read_sums(folder / SUMS))}
    except CollectionNotFoundError:
        return Checked()  # dropped meanwhile
    checked.corrupt = [corruption for corruption in found if corruption.file not in gone - needed]
    return checked


def _corruptions(name: str, folder: Path, checked: Checked) -> Iterator[Corruption]:
    """What is corrupt in a collection at its newest version. Counts in `checked` what was read.

    Files with a sum are compared first: Lance takes some changed bits for what they say, and others end in a panic.
    """
    if not folder.is_dir():
        yield Corruption(name, str(folder), "", "the collection's folder is missing")
        return
    sums = read_sums(folder / SUMS)
    # A file that is not there any more is missed below, if the newest version has it.
    bad = {file: checked.read_file(folder / file, sums[file]) for file in sums if (folder / file).exists()}
    try:
        with storage_errors(name, folder):
            collection = Collection(name, open_dataset(folder))
        files = _needed(collection, sums)
    except CollectionNotFoundError:
        raise
    except TokenIndexError as error:
        named = [Corruption(name, str(folder / file), "", reason) for file, reason in bad.items() if reason]
        if not named and isinstance(error, StoreUnavailableError):
            raise
        yield from named or [Corruption(name, str(folder), "", str(error))]
        return
    checked.formats = {collection.spec.format: 1}
    fragments = {file.path: rows for rows in collection.dataset.get_fragments() for file in rows.data_files()}
    for file in dict.fromkeys([*files, *bad]):
        path = folder / file
        fragment = fragments.get(path.name)
        checked.without_sum += file not in sums
        if reason := bad[file] if file in bad else checked.read_file(path, None):
            yield Corruption(name, str(path), _documents(fragment) if fragment else "", reason)
        elif fragment is not None:
            yield from _unreadable_rows(collection, fragment, path, checked)
    try:
        collection.latest().search_texts("a text", 1)
    except CollectionNotFoundError:
        raise
    except TokenIndexError as error:
        yield Corruption(name, str(folder / "_indices"), "", f"BM25 cannot be computed: {error}")


def _needed(collection: Collection, sums: Mapping[str, str]) -> list[str]:
    """The files of the newest version. Of an index Lance lists those that are there; the sums have all."""
    indexes = {f"_indices/{index['uuid']}/" for index in collection.dataset.list_indices()}
    return [*collection.files(), *(file for file in sums if any(file.startswith(folder) for folder in indexes))]


def _unreadable_rows(
    collection: Collection, fragment: lance.LanceFragment, path: Path, checked: Checked
) -> Iterator[Corruption]:
    """Reads all live rows of a fragment."""
    width = collection.spec.codec.bytes_per_token(collection.spec.dim)
    for first, read in _batches(fragment):
        if isinstance(read, str):
            last = min(first + _ROWS_PER_READ, fragment.count_rows())
            yield Corruption(
                collection.name, str(path), f"rows {first + 1:,} to {last:,}", f"they cannot be read ({read})"
            )
            continue
        checked.documents += len(read)
        if bad := [row["id"] for row in read.to_pylist() if not _is_whole(row, width)]:
            yield Corruption(
                collection.name, str(path), _named(bad), "metadata or embeddings are not what Tridex writes"
            )


def _batches(fragment: lance.LanceFragment) -> Iterator[tuple[int, pa.RecordBatch | str]]:
    """All live rows of a fragment: the number of those before, and some rows, or why they cannot be read."""
    first, rows = 0, fragment.count_rows()
    limit = None
    while first < rows:
        try:
            scanner = fragment.scanner(offset=first, limit=limit, batch_size=_ROWS_PER_READ, batch_readahead=2)
            for batch in scanner.to_batches():
                batch.validate(full=True)
                yield first, batch
                first += len(batch)
        except BaseException as error:
            if not is_of_storage(error):
                raise
            if limit:
                yield first, reason_of(error)
                first += limit
            limit = _ROWS_PER_READ  # a few at a time from here on, to name those that are at fault


def _is_whole(row: dict[str, Any], width: int) -> bool:
    """Whether a row's metadata is a JSON object and its codes have as many bytes as its tokens need."""
    try:
        metadata = json.loads(row["metadata"])
    except ValueError:
        return False
    return isinstance(metadata, dict) and len(row["codes"]) == row["tokens"] * width


def _documents(fragment: lance.LanceFragment) -> str:
    """The documents of a file, as far as their ids can be read."""
    try:
        return _named(fragment.to_table(columns=["id"])["id"].to_pylist())
    except BaseException as error:
        if not is_of_storage(error):
            raise
        return f"{fragment.physical_rows:,} rows, whose ids cannot be read"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED_IDS:,} more" if len(ids) > _NAMED_IDS else ""
    return ", ".join(map(repr, ids[:_NAMED_IDS])) + more
