"""The folders of a store's collections: made with an empty dataset, removed when their name is dropped.

collections/NAME-TOKEN.lance    a name that is dropped and made again gets another folder, so nobody takes the new
                                collection for a later version of the old one
collections/.new-...            one that is being made
collections/.dropped-...        one that is being removed

A folder that no name leads to is not removed: names may have been lost, or folders put back from a backup.
"""

from __future__ import annotations

import math
import secrets
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import lance

from .checksums import files_of, record_sums
from .codebook_file import save_codebook
from .durability import NotSyncedError, sync_all, sync_newest
from .file_errors import write_errors
from .lance_session import open_dataset
from .spec import CollectionSpec, schema_of
from .text_index import create_text_index

if TYPE_CHECKING:
    from tridex.kernels import Codebook

_TOKEN_BYTES = 4
_NEW = ".new-"
_DROPPED = ".dropped-"
"""Nobody takes a folder that begins with a dot for a collection, whole or corrupt."""


def create_folder(parent: Path, name: str, spec: CollectionSpec, codebook: Codebook | None) -> Path:
    """A new folder with an empty collection, which survives a loss of power.

    Raises ValueError where the codec wants another codebook, or none, and as write_errors.
    """
    spec.codec.check_codebook(codebook, spec.dim)
    folder = parent / f"{_NEW}{name}-{secrets.token_hex(_TOKEN_BYTES)}.lance"
    with write_errors(f"collection {name!r}"):
        if codebook is not None:
            spec = replace(spec, codebook=save_codebook(folder, codebook))
        schema = schema_of(spec)
        create_text_index(lance.write_dataset(schema.empty_table(), str(folder), schema=schema, mode="create"))
        record_sums(folder, files_of(open_dataset(folder), spec.codebook), math.inf)
        try:
            sync_newest(folder)
            folder = folder.rename(folder.with_name(folder.name.removeprefix(_NEW)))
            sync_all([parent])
        except NotSyncedError:
            remove_folder(folder)
            raise
    return folder


def folders_made_for(parent: Path, name: str) -> list[Path]:
    """The folders that were made for collections of that name, by their own names."""
    return list(parent.glob(f"{name}-{'[0-9a-f]' * 2 * _TOKEN_BYTES}.lance"))


def folders_in(parent: Path) -> list[Path]:
    """The folders of collections, whether a name leads to them or not, sorted."""
    return sorted(parent.glob("[!.]*.lance")) if parent.is_dir() else []


def remove_folder(folder: Path) -> None:
    """Removes a dropped collection's folder, where it is there, and what crashes have left of others.

    To be called while nobody else makes or removes one.
    """
    with suppress(FileNotFoundError):
        folder.rename(folder.with_name(f"{_DROPPED}{folder.name}"))
    for left in (*folder.parent.glob(f"{_DROPPED}*"), *folder.parent.glob(f"{_NEW}*")):
        shutil.rmtree(left, ignore_errors=True)
