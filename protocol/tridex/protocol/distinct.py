"""Finds ids that come twice, among any number of them."""

from __future__ import annotations

import reprlib
import sqlite3

from .corpus import CorpusError


class DistinctIds:
    """The ids of a source and their places, in a temporary SQLite database, which spills to disk what its small cache
    cannot hold."""

    def __init__(self) -> None:
        self._seen = sqlite3.connect("")
        self._seen.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")

    def __enter__(self) -> DistinctIds:
        return self

    def __exit__(self, *_: object) -> None:
        self._seen.close()

    def add(self, document_id: str, place: str) -> None:
        """Raises CorpusError where the id came before, naming both places; OSError where the disk is full."""
        try:
            self._seen.execute("INSERT INTO seen VALUES (?, ?)", (document_id, place))
        except sqlite3.IntegrityError:
            (first,) = self._seen.execute("SELECT place FROM seen WHERE id = ?", (document_id,)).fetchone()
            shown = reprlib.repr(document_id)
            raise CorpusError(f"{place}: id {shown} was there before ({first}); expected distinct ids") from None
        except sqlite3.Error as error:
            raise OSError(f"the ids cannot be kept in a temporary file: {error}") from error
