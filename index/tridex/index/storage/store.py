"""All collections in one folder, and the aliases that lead to them.

names/NAME                      what the name means (names.py)
collections/NAME-TOKEN.lance    a collection's dataset; a name that is dropped and made again gets another folder,
                                so nobody takes the new collection for a later version of the old one
"""

from __future__ import annotations

import json
import secrets
import shutil
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from tridex.index.errors import (
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    CorruptCollectionError,
    StoreUnavailableError,
    TokenIndexError,
)
from tridex.kernels import Codebook

from .builds import Build, lock_folder
from .collection import Collection, write_empty
from .file_errors import open_dataset, storage_errors, write_errors
from .registry import UNREADABLE, Entry, Registry
from .spec import CollectionSpec

_DROPPED = ".dropped-"
"""Begins the name of a folder that is being removed: nobody takes it for a damaged collection meanwhile."""

_NEAR = 3
"""Registry that a message offers for one that means nothing."""

_COMPARED = 1000
"""Registry that are compared with it, those next to it in their order: 20 µs each."""


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
        self._registry = Registry(self.folder / "names")
        if any(self.folder.glob("*.lance")):
            raise TokenIndexError(
                f"{self.folder} holds collections of store format 1, which this version of Tridex does not read: index "
                "the documents again into another folder"
            )

    def names(self) -> list[str]:
        """The collections there are, sorted; without aliases and unfinished builds, with what is damaged."""
        return list(self.folders())

    def folders(self) -> dict[str, Path | None]:
        """The folder of each of `names`; None where the name's file is damaged or could not be read just now.

        Raises StoreUnavailableError where the names themselves could not be listed.
        """
        return {
            name: self._collections / entry.folder if entry.folder else None
            for name, entry in self._registry.all().items()
            if not entry.alias_of and not entry.built_from
        }

    def aliases(self) -> dict[str, str]:
        """Every alias, sorted, and the collection that it leads to."""
        return {name: entry.alias_of for name, entry in self._registry.all().items() if entry.alias_of}

    def stamp(self) -> tuple[int, int]:
        """Another pair whenever a name was given or taken, and whenever a collection was written to (4 µs).

        Not where this process may not set a folder's time, nor on file systems that tell late: look now and then.
        Raises StoreUnavailableError.
        """
        try:
            written = self._collections.stat().st_mtime_ns
        except FileNotFoundError:
            written = 0
        except OSError as error:
            raise StoreUnavailableError(f"{self._collections} could not be read just now ({error})") from error
        return self._registry.stamp(), written

    def resolve(self, name: str) -> Location:
        """Where a collection's name or an alias leads now. Raises CollectionNotFoundError."""
        alias = self._registry.get(name)
        target = (alias and alias.alias_of) or name
        entry = self._registry.get(target)
        if entry is None or entry.folder is None or entry.built_from:
            raise CollectionNotFoundError(f"collection {name!r} does not exist; {self._near(name, self._is_found)}")
        return Location(target, self._collections / entry.folder, alias.version if alias else 0)

    def create(self, name: str, spec: CollectionSpec, codebook: Codebook | None = None) -> Collection:
        """Makes an empty collection, with the codebook that its codec wants.

        Raises CollectionExistsError where the name is taken, ValueError where the codec wants another codebook.
        """
        with self._registry.locked():
            self.check_free(name)
            folder = self._made(name, spec, codebook)
            self._registry.set(name, Entry(folder=folder.name))
        return self.open(name)

    def begin_build(self, name: str, spec: CollectionSpec, source: str, codebook: Codebook | None = None) -> Build:
        """Makes an empty collection that nobody sees before `finish_build`. Raises as `create`."""
        with self._registry.locked():
            self.check_free(name)
            folder = self._made(name, spec, codebook)
            lock = lock_folder(name, folder)
            self._registry.set(name, Entry(folder=folder.name, built_from=source))
        return Build(Collection(name, open_dataset(folder)), source, lock)

    def resume_build(self, name: str) -> Build | None:
        """The unfinished collection of that name, None where there is none. Raises CollectionInUseError."""
        entry = self._registry.get(name)
        if entry is None or entry.folder is None or entry.built_from is None:
            return None
        folder = self._collections / entry.folder
        lock = lock_folder(name, folder)
        build = Build(Collection(name, open_dataset(folder)), entry.built_from, lock)
        if self._registry.get(name) != entry:
            # Finished since it was looked up.
            with build:
                return None
        return build

    def finish_build(self, build: Build) -> None:
        """Indexes the texts and gives the collection its name: from now on it is as any other."""
        build.collection.index_new_texts()
        with self._registry.locked():
            finished = Entry(folder=build.collection.folder.name, made_from=build.source)
            self._registry.set(build.collection.name, finished)

    def made_from(self, name: str) -> str | None:
        """What a finished bulk build made the collection of that name from; None where none did."""
        entry = self._registry.get(name)
        return entry.made_from if entry else None

    def discard_build(self, name: str) -> None:
        """Removes the unfinished collection of that name, where there is one. Raises CollectionInUseError."""
        build = self.resume_build(name)
        if build is not None:
            with build, self._registry.locked():
                self._registry.remove(name)
                self._remove_nameless()

    def open(self, name: str) -> Collection:
        """The collection of that name or alias at its latest version.

        Raises CollectionNotFoundError, and CorruptCollectionError where its files cannot be read.
        """
        location = self.resolve(name)
        with storage_errors(location.name, location.folder):
            return Collection(location.name, open_dataset(location.folder))

    def drop(self, name: str) -> None:
        """Removes a collection with its documents. Raises CollectionInUseError while an alias leads to it."""
        with self._registry.locked():
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
            self.resolve(name)
            self._registry.remove(name)
            self._remove_nameless()

    def set_alias(self, alias: str, collection: str) -> None:
        """Makes `alias` lead to a collection, as it is now or newer, wherever it led before.

        Raises CollectionExistsError where a collection has that name, CollectionNotFoundError where there is no such
        collection or it is an alias itself. A damaged alias is made anew, if it can have been an alias.
        """
        with self._registry.locked():
            if collection in self.aliases():
                raise CollectionNotFoundError(f"{collection!r} is an alias itself; expected the name of a collection")
            version = self.open(collection).version
            if alias not in self.aliases() and not self._is_damaged_alias(alias):
                self.check_free(alias)
            self._registry.set(alias, Entry(alias_of=collection, version=version))

    def drop_alias(self, alias: str) -> None:
        """Removes an alias, also a damaged one; the collection stays.

        Raises CollectionNotFoundError where there is no such alias.
        """
        with self._registry.locked():
            aliases = self.aliases()
            if alias not in aliases and not self._is_damaged_alias(alias):
                near = self._near(alias, aliases.__contains__)
                raise CollectionNotFoundError(f"alias {alias!r} does not exist; {near}")
            self._registry.remove(alias)

    def check_free(self, name: str) -> None:
        """Raises CollectionExistsError where the name means something already."""
        entry = self._registry.get(name)
        if entry and entry.alias_of:
            raise CollectionExistsError(f"{name!r} is an alias of collection {entry.alias_of!r}")
        if entry and entry.built_from:
            raise CollectionExistsError(f"collection {name!r} is being built, by `tridex index build`")
        if entry:
            raise CollectionExistsError(f"collection {name!r} exists already")

    def _is_damaged_alias(self, name: str) -> bool:
        """Whether that name's file is damaged.

        Raises CorruptCollectionError where it may be a collection's: one without a name left would lose its folder.
        """
        try:
            self._registry.get(name)
            return False
        except CorruptCollectionError:
            named = {entry.folder for entry in self._registry.all().values()}
        for folder in self._collections.glob(f"{name}-{'[0-9a-f]' * 8}.lance"):
            if folder.name not in named:
                raise CorruptCollectionError(
                    f"the file {self.folder / 'names' / name} is damaged, and seems to be that of a collection in "
                    f"{folder}, not of an alias; to have it back, make the file say "
                    f"{json.dumps({'folder': folder.name})}"
                )
        return True

    def _near(self, name: str, is_meant: Callable[[str], bool]) -> str:
        """The names most like this one, of those that may be meant, for a message of any length of the list."""
        names = self._registry.listed()
        few = len(names) <= _NEAR
        if not few:
            place = bisect_left(names, name)
            compared = names[max(place - _COMPARED // 2, 0) : place + _COMPARED // 2]
            names = get_close_matches(name, compared, n=_NEAR**2)
        near = ", ".join([other for other in names if is_meant(other)][:_NEAR])
        return f"{'there are' if few else 'names like it'}: {near or 'none'}"

    def _is_found(self, name: str) -> bool:
        """Whether the name leads to a collection, as far as its own file says."""
        with suppress(TokenIndexError):
            entry = self._registry.get(name)
            return entry is not None and not entry.built_from
        return False

    def _made(self, name: str, spec: CollectionSpec, codebook: Codebook | None) -> Path:
        """A new folder with an empty collection."""
        folder = self._collections / f"{name}-{secrets.token_hex(4)}.lance"
        with write_errors(f"collection {name!r}"):
            write_empty(spec, folder, codebook)
        return folder

    def _remove_nameless(self) -> None:
        """Removes the folders of dropped collections, and of those whose making ended halfway.

        Keeps them all while there is a name whose file cannot be read: one of them is the collection of that name.
        """
        meanings = self._registry.all().values()
        if UNREADABLE in meanings:
            return
        named = {entry.folder for entry in meanings}
        for folder in self._collections.iterdir():
            if folder.name not in named:
                dropped = folder
                if not folder.name.startswith(_DROPPED):
                    dropped = folder.rename(folder.with_name(f"{_DROPPED}{folder.name}"))
                shutil.rmtree(dropped, ignore_errors=True)
