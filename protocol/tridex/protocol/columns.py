"""Which columns of a row make a document: its id, its text, and the rest as metadata."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from .corpus import CorpusDocument, CorpusError

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxdict = 80

_IDS = ("_id", "id")
_TITLE, _TEXT, _METADATA = "title", "text", "metadata"


@dataclass(frozen=True)
class Columns:
    """How the columns of a source are read. A column `metadata` of objects is metadata as a whole, every column that is
    not named here another key of it.

    Attributes:
        id: The column of ids, strings or integers; `_id` or `id` where None.
        text: Columns whose texts are joined; `title` and `text` where empty, of which a row may lack the title.
    """

    id: str | None = None
    text: Sequence[str] = ()

    def check(self, names: Sequence[str], source: str) -> None:
        """Raises CorpusError where a source with these columns has not what a document needs."""
        if len(set(names)) < len(names):
            raise CorpusError(f"{source} has the columns {[*names]}; expected distinct ones")
        ids = [self.id] if self.id else [*_IDS]
        if not set(ids) & set(names):
            raise CorpusError(f"{source} has the columns {[*names]}; expected {' or '.join(ids)}, or --id with another")
        for name in self.text or [_TEXT]:
            if name not in names:
                raise CorpusError(f"{source} has the columns {[*names]}; expected {name}, or --text with another")

    def document(self, row: Mapping[str, Any], place: str) -> CorpusDocument:
        """The document of a row. Raises CorpusError, which names `place` and the column."""
        id_column = self.id or next((name for name in _IDS if name in row), None)
        if id_column is None or id_column not in row:
            raise self._lacks(row, place, self.id or " or ".join(_IDS), "--id")
        key = row[id_column]
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        if not isinstance(key, str):
            raise CorpusError(f"{place}: {id_column} is {_SHORT.repr(key)}; expected an id, a string or an integer")
        texts = {name: self._text(row, name, place) for name in self.text or (_TITLE, _TEXT)}
        rest = {name: value for name, value in row.items() if name not in texts and name != id_column}
        return CorpusDocument(key, " ".join(filter(None, texts.values())), _metadata(rest, place))

    def _text(self, row: Mapping[str, Any], name: str, place: str) -> str:
        value = row.get(name)
        if value is None and (name in row or name == _TITLE):
            return ""
        if name not in row:
            raise self._lacks(row, place, name, "--text")
        if not isinstance(value, str):
            raise CorpusError(f"{place}: {name} is {_SHORT.repr(value)}; expected text")
        return value.strip()

    @staticmethod
    def _lacks(row: Mapping[str, Any], place: str, name: str, option: str) -> CorpusError:
        existing = ", ".join(row) or "none"
        return CorpusError(f"{place}: no {name}; expected one, or {option} with another name of: {existing:.200}")


def _metadata(rest: dict[str, Any], place: str) -> dict[str, Any]:
    """Raises CorpusError for a column metadata that holds no objects."""
    given = rest.pop(_METADATA, None)
    if not (given is None or isinstance(given, dict)):
        raise CorpusError(f"{place}: {_METADATA} is {_SHORT.repr(given)}; expected an object")
    return {name: _as_json(value) for name, value in {**(given or {}), **rest}.items()}


def _as_json(value: Any) -> Any:
    """Times as ISO 8601; other values that JSON does not have are refused by `check_document`."""
    return value.isoformat() if isinstance(value, date) else value
