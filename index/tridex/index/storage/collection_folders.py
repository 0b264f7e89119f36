"""The folders of a store's collections: made with an empty dataset, removed once no name leads to them.

collections/NAME-TOKEN.lance    a name that is dropped and made again gets another folder, so nobody takes the new
                                collection for a later version of the old one
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import lance

from .codebook_file import save_codebook
from .durability import sync_newest
from .file_errors import write_errors
from .spec import CollectionSpec, schema_of
from .text_index import create_text_index

if TYPE_CHECKING:
    from tridex.kernels import Codebook

_TOKEN_BYTES = 4
_DROPPED = ".dropped-"
"""Begins the name of a folder that is being removed: nobody takes it for a corrupt collection meanwhile."""


def create_folder(parent: Path, name: str, spec: CollectionSpec, codebook: Codebook | None) -> Path:
    """A new folder with an empty collection, which survives a loss of power.

    Raises ValueError where the codec wants another codebook, or none, and as write_errors.
    """
    spec.codec.check_codebook(codebook, spec.dim)
    folder = parent / f"{name}-{secrets.token_hex(_TOKEN_BYTES)}.lance"
    with write_errors(f"collection {name!r}"):
        if codebook is not None:
            spec = replace(spec, codebook=save_codebook(folder, codebook))
        schema = schema_of(spec)
        create_text_index(lance.write_dataset(schema.empty_table(), str(folder), schema=schema, mode="create"))
        sync_newest(folder)
    return folder


def folders_made_for(parent: Path, name: str) -> list[Path]:
    """The folders that were made for collections of that name, by their own names."""
    return list(parent.glob(f"{name}-{'[0-9a-f]' * 2 * _TOKEN_BYTES}.lance"))


def remove_folders(parent: Path, keep: AbstractSet[str | None]) -> None:
    """Removes all folders but those of these names: of dropped collections, and of those whose making ended halfway."""
    for folder in parent.iterdir():
        if folder.name not in keep:
            dropped = folder
            if not folder.name.startswith(_DROPPED):
                dropped = folder.rename(folder.with_name(f"{_DROPPED}{folder.name}"))
            shutil.rmtree(dropped, ignore_errors=True)
