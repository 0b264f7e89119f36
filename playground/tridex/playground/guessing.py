"""Which columns of a file make a document, where nobody says: a guess from all of its rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tridex.protocol.columns import Columns
from tridex.protocol.corpus import CorpusDocument, CorpusError
from tridex.protocol.sources import open_source

_IDS = ("_id", "id")
"""What Columns takes by itself, as it does a column `text`."""
_TEXT = "text"
_LIKE_AN_ID = re.compile(r"(.*[^a-z])?(id|key|no|nr|number|code|sku|uuid|isbn|doi|slug)", re.IGNORECASE)
_LIKE_A_TITLE = re.compile(r"title|name|headline|heading|subject|synopsis|summary|question", re.IGNORECASE)
_ID = re.compile(r"\S{1,64}")
_PROSE_WORDS = 5
"""Words that the cells of a column have on average for it to be a text."""


def guess_columns(path: Path, columns: Columns) -> Columns:
    """`columns`, whose id and text are those of the file's columns that look like them, where they are not given.

    Ids are those of the first column named like one, or else of the first of all, whose values are short and distinct;
    where there is none, rows have the number of their line. Texts are all columns of prose, with those named like a
    title in front.

    Raises:
        CorpusError: No column holds text, or the file cannot be read. OSError.
    """
    seen: dict[str, _Column] = defaultdict(_Column)
    rows = 0
    for _, row in open_source(path, _EveryColumn()).rows():
        if isinstance(row, CorpusError):
            continue  # It is reported when the documents are read.
        rows += 1
        for name, value in row.metadata.items():
            seen[name].add(value)
    if not rows:
        return columns  # which says what is wrong, or finds no document
    key = columns.id or _ids(seen, rows, taken=columns.text)
    if not columns.text and _TEXT not in seen:
        texts = _texts({name: column for name, column in seen.items() if name != key})
        if not texts:
            raise CorpusError(f"{path} has the columns {[*seen]}, none of which holds text; expected --text with one")
        columns = replace(columns, text=texts)
    if key is not None:
        return replace(columns, id=key)
    return NumberedRows(id="(line)", text=columns.text, prefix=f"{path}/" if path.is_dir() else f"{path}, ")


@dataclass(frozen=True)
class NumberedRows(Columns):
    """Columns without ids: a document's id is where its row is, "line 12"."""

    prefix: str = ""
    """Of places, which ids leave out."""

    def check(self, names: Sequence[str], source: str) -> None:
        """As of Columns, but for the id."""
        Columns(names[0], self.text).check(names, source)

    def document(self, row: Mapping[str, Any], place: str) -> CorpusDocument:
        """As of Columns."""
        return super().document({**row, self.id or "": place.removeprefix(self.prefix)}, place)


@dataclass(frozen=True)
class _EveryColumn(Columns):
    """Rows as they are, as the metadata of a document."""

    def check(self, names: Sequence[str], source: str) -> None:
        pass

    def document(self, row: Mapping[str, Any], place: str) -> CorpusDocument:  # noqa: ARG002
        return CorpusDocument("", "", row)


@dataclass
class _Column:
    """What the cells of a column look like."""

    texts: int = 0
    words: int = 0
    ids: set[str] = field(default_factory=set)
    """Distinct values that could be ids; they are no longer kept when one comes twice."""
    is_distinct: bool = True

    def add(self, value: Any) -> None:
        if isinstance(value, str) and value:
            self.texts += 1
            self.words += len(value.split())
        if not self.is_distinct:
            return
        key = str(value)
        if isinstance(value, (int, str)) and not isinstance(value, bool) and _ID.fullmatch(key):
            self.is_distinct = key not in self.ids
            self.ids.add(key)
        else:
            self.is_distinct = False
        if not self.is_distinct:
            self.ids.clear()

    @property
    def mean_words(self) -> float:
        return self.words / self.texts if self.texts else 0.0


def _ids(columns: Mapping[str, _Column], rows: int, *, taken: Sequence[str]) -> str | None:
    """The column of ids; None where there is none."""
    if usual := [name for name in _IDS if name in columns]:
        return usual[0]
    named = [name for name in columns if _LIKE_AN_ID.fullmatch(name)]
    for name in [*named, *list(columns)[:1]]:
        if len(columns[name].ids) == rows and name not in taken:
            return name
    return None


def _texts(columns: Mapping[str, _Column]) -> list[str]:
    """Titles, then prose; or the column with the longest texts; empty where there is no text."""
    held = {name: column.mean_words for name, column in columns.items() if column.texts}
    prose = [name for name, words in held.items() if words >= _PROSE_WORDS]
    titles = [name for name in held if _LIKE_A_TITLE.fullmatch(name) and name not in prose]
    return titles + prose or sorted(held, key=lambda name: -held[name])[:1]
