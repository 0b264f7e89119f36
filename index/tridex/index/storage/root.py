"""The root of a store: all collections in one folder, and the aliases that lead to them.

names/NAME                      what the name stands for (registry.py)
collections/NAME-TOKEN.lance    a collection's dataset (collection_folders.py)
.writer                         which process may write (writer_lock.py)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tridex.index.errors import (
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    CorruptCollectionError,
    MayKnow,
    StoreUnavailableError,
    TokenIndexError,
)

from .collection import Collection
from .collection_folders import create_folder, folders_in, folders_made_for, remove_folder
from .durability import remove_torn_versions
from .file_errors import storage_errors
from .lance_session import forget_cached, keeps_removed_files, open_dataset
from .near_names import near_names
from .registry import Entry, Registry
from .spec import CollectionSpec
from .unfinished import Build, lock_folder

if TYPE_CHECKING:
    from tridex.kernels import Codebook


class Location(NamedTuple):
    """Where a name leads: the collection's own name, and its folder, which no other collection ever had."""

    name: str
    folder: Path
    version: int = 0
    """What is read through the name is at this version or a newer one: an alias does not lead into the past."""


def _leading(aliases: Sequence[str], may_know: MayKnow) -> str:
    """That aliases lead somewhere, for a message's end."""
    known = [f"the alias {alias!r}" for alias in aliases if may_know(alias)]
    return f"{known[0] if known else 'an alias'} leads to it; set that to another collection or drop it first"


class Store:
    """All collections in one folder.

    Args:
        folder: Made with the first collection, where there is none yet.

    Raises:
        TokenIndexError: The folder is a store of format 1.
    """

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
        """The names of all collections, sorted: without aliases and unfinished builds, with corrupt entries."""
        return list(self.folders())

    def folders(self) -> dict[str, Path | None]:
        """The folder of each of `names`; None where the name's file is corrupt or could not be read just now.

        Raises:
            StoreUnavailableError: The names themselves could not be listed.
        """
        return {
            name: self._collections / entry.folder if entry.folder else None
            for name, entry in self._registry.all().items()
            if not entry.alias_of and not entry.built_from
        }

    def unnamed(self) -> list[Path]:
        """The folders in collections/ that no name leads to: their names were lost, they were put there by hand, or
        a `create` was cut off."""
        with self._registry.unchanging():
            there = folders_in(self._collections)
            named = {entry.folder for entry in self._registry.all().values()}
        return [folder for folder in there if folder.name not in named and folder.is_dir()]

    def aliases(self) -> dict[str, str]:
        """Every alias, sorted, and the collection that it leads to."""
        return {name: entry.alias_of for name, entry in self._registry.all().items() if entry.alias_of}

    def stamp(self) -> tuple[int, int]:
        """Another pair whenever a name was set or removed, and whenever a collection was written to (4 µs).

        Not where this process may not set a folder's time, nor on file systems that tell late: look now and then.

        Raises:
            StoreUnavailableError: The folders' times could not be read.
        """
        try:
            written = self._collections.stat().st_mtime_ns
        except FileNotFoundError:
            written = 0
        except OSError as error:
            raise StoreUnavailableError(f"{self._collections} could not be read just now ({error})") from error
        return self._registry.stamp(), written

    def close_removed_files(self) -> None:
        """Lets go of this store's files that are removed and still open in this process; collections that are kept open
        have them until `Collection.renew`."""
        if keeps_removed_files(self.folder):
            forget_cached()

    def resolve(self, name: str) -> Location:
        """Where the name of a collection or an alias leads now.

        Raises:
            CollectionNotFoundError: Nowhere; the message offers names like it.
            CorruptCollectionError: The name's file cannot be read.
        """
        alias = self._registry.get(name)
        target = (alias and alias.alias_of) or name
        entry = self._registry.get(target)
        if entry is None or entry.folder is None or entry.built_from:
            near = partial(near_names, name, self._registry.listed(), self._is_found)
            raise CollectionNotFoundError(f"collection {name!r} does not exist", near)
        return Location(target, self._collections / entry.folder, alias.version if alias else 0)

    def open(self, name: str) -> Collection:
        """The collection of that name or alias at its latest version.

        Raises:
            CollectionNotFoundError: There is none.
            CorruptCollectionError: Its files, or its name's, cannot be read.
            StoreUnavailableError: They could not be read just now.
        """
        location = self.resolve(name)
        with storage_errors(location.name, location.folder):
            return Collection(location.name, open_dataset(location.folder))

    def create(self, name: str, spec: CollectionSpec, codebook: Codebook | None = None) -> Collection:
        """Makes an empty collection.

        Args:
            name: A name that stands for nothing yet.
            spec: What all its documents will have in common.
            codebook: For the residual codecs; None for the others.

        Raises:
            CollectionExistsError: The name is taken.
            ValueError: The codec wants another codebook, or none.
        """
        with self._registry.locked():
            self.check_free(name)
            folder = create_folder(self._collections, name, spec, codebook)
            self._registry.set(name, Entry(folder=folder.name))
        return self.open(name)

    def drop(self, name: str) -> None:
        """Removes a collection with its documents.

        Raises:
            CollectionInUseError: An alias leads to it, or the name is an alias.
            CollectionNotFoundError: There is none.
        """
        with self._registry.locked():
            aliases = self.aliases()
            if name in aliases:
                raise CollectionInUseError(
                    f"{name!r} is an alias of {aliases[name]!r}; expected a collection's own name"
                )
            leading = [alias for alias, target in aliases.items() if target == name]
            if leading:
                raise CollectionInUseError(f"collection {name!r} cannot be dropped: ", partial(_leading, leading))
            folder = self.resolve(name).folder
            self._registry.remove(name)
            remove_folder(folder)

    def set_alias(self, alias: str, collection: str) -> None:
        """Makes `alias` lead to a collection, as it is now or newer, wherever it led before.

        A corrupt alias is made anew, if it can have been an alias.

        Raises:
            CollectionExistsError: A collection has that name.
            CollectionNotFoundError: There is no such collection, or it is an alias itself.
        """
        with self._registry.locked():
            if collection in self.aliases():
                raise CollectionNotFoundError(f"{collection!r} is an alias itself; expected the name of a collection")
            target = self.open(collection)
            target.sync()  # A search through the alias would wait for a version that a loss of power took back.
            if alias not in self.aliases() and not self.is_corrupt_alias(alias):
                self.check_free(alias)
            self._registry.set(alias, Entry(alias_of=collection, version=target.version))

    def drop_alias(self, alias: str) -> None:
        """Removes an alias, also a corrupt one; the collection stays.

        Raises:
            CollectionNotFoundError: There is no such alias.
        """
        with self._registry.locked():
            aliases = self.aliases()
            if alias not in aliases and not self.is_corrupt_alias(alias):
                near = partial(near_names, alias, self._registry.listed(), aliases.__contains__)
                raise CollectionNotFoundError(f"alias {alias!r} does not exist", near)
            self._registry.remove(alias)

    def check_free(self, name: str) -> None:
        """Raises CollectionExistsError where the name stands for something already."""
        entry = self._registry.get(name)
        if entry and entry.alias_of:
            raise CollectionExistsError(f"{name!r} is an alias of collection {entry.alias_of!r}")
        if entry and entry.built_from:
            raise CollectionExistsError(f"collection {name!r} is being built, by `tridex index build`")
        if entry:
            raise CollectionExistsError(f"collection {name!r} exists already")

    def begin_build(self, name: str, spec: CollectionSpec, source: str, codebook: Codebook | None = None) -> Build:
        """Makes an empty collection that nobody sees before `finish_build`.

        Args:
            source: What it is built from, for `Build.source` and `made_from`.

        Raises as `create`, whose arguments the others are.
        """
        with self._registry.locked():
            self.check_free(name)
            folder = create_folder(self._collections, name, spec, codebook)
            lock = lock_folder(name, folder)
            self._registry.set(name, Entry(folder=folder.name, built_from=source))
        return Build(Collection(name, open_dataset(folder)), source, lock)

    def resume_build(self, name: str) -> Build | None:
        """The unfinished collection of that name, None where there is none.

        Raises:
            CollectionInUseError: Another process builds it.
        """
        entry = self._registry.get(name)
        if entry is None or entry.folder is None or entry.built_from is None:
            return None
        folder = self._collections / entry.folder
        lock = lock_folder(name, folder)
        remove_torn_versions(folder)
        build = Build(Collection(name, open_dataset(folder)), entry.built_from, lock)
        if self._registry.get(name) != entry:
            # Finished since it was looked up.
            with build:
                return None
        return build

    def finish_build(self, build: Build) -> None:
        """Indexes the texts and gives the collection its name: from now on it is as any other."""
        build.collection.index_new_texts()
        build.collection.latest().record_checksums()
        with self._registry.locked():
            finished = Entry(folder=build.collection.folder.name, made_from=build.source)
            self._registry.set(build.collection.name, finished)

    def discard_build(self, name: str) -> None:
        """Removes the unfinished collection of that name, where there is one. Raises as `resume_build`."""
        build = self.resume_build(name)
        if build is not None:
            with build, self._registry.locked():
                self._registry.remove(name)
                remove_folder(build.collection.folder)

    def made_from(self, name: str) -> str | None:
        """What a finished bulk build made the collection of that name from; None where none did."""
        entry = self._registry.get(name)
        return entry.made_from if entry else None

    def is_corrupt_alias(self, name: str) -> bool:
        """Whether that name's file is corrupt.

        Raises CorruptCollectionError where it may be a collection's: its folder would be left without a name.
        """
        try:
            self._registry.get(name)
            return False
        except CorruptCollectionError:
            named = {entry.folder for entry in self._registry.all().values()}
        for folder in folders_made_for(self._collections, name):
            if folder.name not in named:
                raise CorruptCollectionError(
                    f"the file {self._registry.path(name)} is corrupt, and seems to be that of a collection in "
                    f"{folder}, not of an alias; to have it back, make the file say "
                    f"{json.dumps({'folder': folder.name})}"
                )
        return True

    def _is_found(self, name: str) -> bool:
        """Whether the name leads to a collection, as far as its own file says."""
        with suppress(TokenIndexError):
            entry = self._registry.get(name)
            return entry is not None and not entry.built_from
        return False
