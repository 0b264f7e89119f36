"""All collections in one folder, and the aliases that lead to them.

names/NAME                      what the name means (names.py)
collections/NAME-TOKEN.lance    a collection's dataset; a name that is dropped and made again gets another folder,
                                so nobody takes the new collection for a later version of the old one
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

import lance

from .collection import Collection, CollectionSpec, write_empty
from .errors import CollectionExistsError, CollectionInUseError, CollectionNotFoundError, TokenIndexError
from .names import UNREADABLE, Meaning, Names
from .storage import storage_errors


class Location(NamedTuple):
    """Where a name leads: the collection's own name, and its folder, which no other collection ever had."""

    name: str
    folder: Path
    version: int = 0
    """What is read through the name is at this version or a newer one: an alias does not lead into the past."""


class Store:
    """All collections in one folder. Raises TokenIndexError where the folder is a store of format 1."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self._collections = self.folder / "collections"
        self._names = Names(self.folder / "names")
        if any(self.folder.glob("*.lance")):
            raise TokenIndexError(
                f"{self.folder} holds collections of store format 1, which this version of Tridex does not read: index "
                "the documents again into another folder"
            )

    def names(self) -> list[str]:
        """The collections there are, sorted; without aliases, with what is damaged."""
        return [name for name, meaning in self._names.all().items() if not meaning.alias_of]

    def aliases(self) -> dict[str, str]:
        """Every alias, sorted, and the collection that it leads to."""
        return {name: meaning.alias_of for name, meaning in self._names.all().items() if meaning.alias_of}

    def locate(self, name: str) -> Location:
        """Where a collection's name or an alias leads now. Raises CollectionNotFoundError."""
        alias = self._names.get(name)
        target = (alias and alias.alias_of) or name
        meaning = self._names.get(target)
        if meaning is None or meaning.folder is None:
            there = ", ".join(self.names()) or "none"
            raise CollectionNotFoundError(f"collection {name!r} does not exist; there are: {there}")
        return Location(target, self._collections / meaning.folder, alias.version if alias else 0)

    def create(self, name: str, spec: CollectionSpec) -> Collection:
        """Makes an empty collection. Raises CollectionExistsError where the name is taken."""
        with self._names.locked():
            self._check_free(name)
            folder = f"{name}-{secrets.token_hex(4)}.lance"
            write_empty(spec, str(self._collections / folder))
            self._names.set(name, Meaning(folder=folder))
        return self.open(name)

    def open(self, name: str) -> Collection:
        """The collection of that name or alias at its latest version.

        Raises CollectionNotFoundError, and DamagedCollectionError where its files cannot be read.
        """
        location = self.locate(name)
        with storage_errors(location.name, location.folder):
            return Collection(location.name, lance.dataset(str(location.folder)))

    def drop(self, name: str) -> None:
        """Removes a collection with its documents. Raises CollectionInUseError while an alias leads to it."""
        with self._names.locked():
            aliases = self.aliases()
            if name in aliases:
                raise CollectionInUseError(
                    f"{name!r} is an alias of {aliases[name]!r}; expected a collection's own name"
                )
            leading = [alias for alias, target in aliases.items() if target == name]
            if leading:
                raise CollectionInUseError(
                    f"collection {name!r} cannot be dropped: the alias {leading[0]!r} leads to it; set that to another "
                    "collection or drop it first"
                )
            self.locate(name)
            self._names.remove(name)
            self._remove_nameless()

    def set_alias(self, alias: str, collection: str) -> None:
        """Makes `alias` lead to a collection, as it is now or newer, wherever it led before.

        Raises CollectionExistsError where a collection has that name, CollectionNotFoundError where there is no such
        collection or it is an alias itself.
        """
        with self._names.locked():
            if collection in self.aliases():
                raise CollectionNotFoundError(f"{collection!r} is an alias itself; expected the name of a collection")
            version = self.open(collection).version
            if alias not in self.aliases():
                self._check_free(alias)
            self._names.set(alias, Meaning(alias_of=collection, version=version))

    def drop_alias(self, alias: str) -> None:
        """Removes an alias; the collection stays. Raises CollectionNotFoundError where there is no such alias."""
        with self._names.locked():
            aliases = self.aliases()
            if alias not in aliases:
                there = ", ".join(aliases) or "none"
                raise CollectionNotFoundError(f"alias {alias!r} does not exist; there are: {there}")
            self._names.remove(alias)

    def _check_free(self, name: str) -> None:
        meaning = self._names.get(name)
        if meaning and meaning.alias_of:
            raise CollectionExistsError(f"{name!r} is an alias of collection {meaning.alias_of!r}")
        if meaning:
            raise CollectionExistsError(f"collection {name!r} exists already")

    def _remove_nameless(self) -> None:
        """Removes the folders of dropped collections, and of those whose making ended halfway.

        Keeps them all while there is a name whose file cannot be read: one of them is the collection of that name.
        """
        meanings = self._names.all().values()
        if UNREADABLE in meanings:
            return
        named = {meaning.folder for meaning in meanings}
        for folder in self._collections.iterdir():
            if folder.name not in named:
                shutil.rmtree(folder, ignore_errors=True)
