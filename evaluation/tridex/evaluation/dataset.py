"""Collections with judged queries, in BEIR's layout.

corpus.jsonl[.gz]     {"_id": ..., "title": ..., "text": ...} a line
queries.jsonl[.gz]    {"_id": ..., "text": ...} a line
qrels/SPLIT.tsv       query-id, corpus-id, score, after a line that says so
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tridex.client import Document, InvalidArgument
from tridex.client.cli.documents import read_path

Qrels = dict[str, dict[str, int]]
"""How relevant each judged document is, by query."""


class DatasetError(ValueError):
    """A folder is not a judged collection. The message names the file, the line and what was expected."""


@dataclass(frozen=True)
class Dataset:
    """A corpus, and the queries of one split that have a judged document."""

    folder: Path
    queries: dict[str, str]
    qrels: Qrels

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.name

    def documents(self) -> Iterator[Document]:
        """The corpus, one by one, without the documents that have no text. Raises DatasetError."""
        return (document for document in _rows(self.folder) if document.text)


def load_dataset(folder: Path, split: str = "test") -> Dataset:
    """Reads queries and judgements; the corpus waits until it is asked for.

    Raises DatasetError where a file is missing or malformed, nothing is judged, or a judged query has no text.
    """
    qrels = _qrels(folder, split)
    texts = {query.id: query.text for query in _rows(_file(folder, "queries.jsonl", "queries.jsonl.gz"))}
    missing = [query for query in qrels if not texts.get(query)]
    if missing:
        raise DatasetError(
            f"{folder}: qrels/{split}.tsv judges query {missing[0]!r}, which has no text in queries.jsonl"
        )
    return Dataset(folder.resolve(), {query: texts[query] for query in qrels}, qrels)


def _file(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder} has no {names[0]}; expected a folder in BEIR's layout (corpus, queries, qrels)")


def _rows(path: Path) -> Iterator[Document]:
    try:
        yield from read_path(path)
    except InvalidArgument as error:
        raise DatasetError(str(error)) from error


def _qrels(folder: Path, split: str) -> Qrels:
    there = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))) or "none"
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        raise DatasetError(
            f"{folder} has no qrels/{split}.tsv, and without judgements nothing can be measured; splits there: {there}"
        )
    qrels: Qrels = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t"), 1):
            if number == 1 and row[-1:] == ["score"]:
                continue
            try:
                query, document, relevance = row
                qrels.setdefault(query, {})[document] = int(relevance)
            except ValueError as error:
                raise DatasetError(
                    f"{path}, line {number}: {row!r}; expected a query's id, a document's id and a whole number, with "
                    "tabs between"
                ) from error
    if not qrels:
        raise DatasetError(f"{path} judges nothing")
    return qrels
