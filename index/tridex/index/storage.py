"""What can go wrong with files, as the index's own errors: a full disk, a damaged collection, one that is dropped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lance

from .errors import CollectionNotFoundError, DamagedCollectionError, StoreFullError

_FULL = re.compile(r"os error (27|28|122)\b|No space left|File too large|quota exceeded", re.IGNORECASE)
"""EFBIG, ENOSPC, EDQUOT: Lance passes the system's words on, and no number beside them."""

_SOURCE_LINE = re.compile(r",? ?/\S+\.rs:\d+:\d+")


class _Stored(Protocol):
    name: str

    @property
    def folder(self) -> Path: ...


_INDEX_CACHE_BYTES = 256 * 2**20
_METADATA_CACHE_BYTES = 64 * 2**20
"""What Lance keeps in the host's memory of a dataset's BM25 index and lists of files; 6 GiB and 1 GiB by itself."""


def open_dataset(folder: str | Path) -> lance.LanceDataset:
    """The dataset in that folder at its newest version."""
    return lance.dataset(
        str(folder), index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )


F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def storage_errors(name: str, folder: Path) -> Iterator[None]:
    """Raises CollectionNotFoundError, StoreFullError or DamagedCollectionError for what Lance raises.

    Lance raises OSError, ValueError and Arrow's errors, which are both; truncated, overwritten and missing files all
    came out as one of these.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if not folder.exists():
            raise CollectionNotFoundError(f"collection {name!r} was dropped just now") from error
        reason = _SOURCE_LINE.sub("", str(error))
        if _FULL.search(reason):
            raise StoreFullError(
                f"collection {name!r}: no room for this write in {folder}, nothing of it is stored ({reason}); free "
                "some space and send it again"
            ) from error
        raise DamagedCollectionError(
            f"collection {name!r} cannot be read or written ({reason}): its files in {folder} are damaged; put a "
            "backup of them there, or drop the collection and index its documents again"
        ) from error


def guarded(method: F) -> F:
    """A method of a collection that touches its files: raises as storage_errors."""

    @wraps(method)
    def call(stored: _Stored, *args: Any, **options: Any) -> Any:
        with storage_errors(stored.name, stored.folder):
            return method(stored, *args, **options)

    return call  # type: ignore[return-value]
