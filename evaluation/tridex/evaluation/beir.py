"""Judged collections in BEIR's layout.

corpus.jsonl[.gz]     {"_id": ..., "title": ..., "text": ...} per line
queries.jsonl[.gz]    {"_id": ..., "text": ...} per line
qrels/SPLIT.tsv       query-id, corpus-id, score, after a header
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tridex.client import Document
from tridex.client.cli.documents import checked
from tridex.protocol.corpus import CorpusError
from tridex.protocol.sources import open_source

from .dataset import Dataset, DatasetError, Qrels, judged_queries

_DEFAULT_SPLIT = "test"


def load_beir(folder: Path, split: str | None) -> Dataset:
    """Reads queries and judgements of a folder, of split "test" where it is None. Raises DatasetError."""
    split = split or _DEFAULT_SPLIT
    qrels = _qrels(folder, split)
    texts = {query.id: query.text for query in _rows(_file(folder, "queries.jsonl", "queries.jsonl.gz"))}
    queries = judged_queries(qrels, texts, f"{folder}: qrels/{split}.tsv", "queries.jsonl")
    return Dataset(folder.resolve().name, split, queries, qrels, lambda: _rows(folder))


def _file(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder} has no {names[0]}; expected a folder in BEIR's layout (corpus, queries, qrels)")


def _rows(path: Path) -> Iterator[Document]:
    try:
        for _, row in checked(open_source(path).rows(), distinct=True):
            yield Document(*row)
    except CorpusError as error:
        raise DatasetError(str(error)) from error


def _qrels(folder: Path, split: str) -> Qrels:
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        existing = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))) or "none"
        raise DatasetError(
            f"{folder} has no qrels/{split}.tsv, and without judgements nothing can be measured; existing splits: "
            f"{existing}"
        )
    qrels: Qrels = {}
    number = 0
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.reader(lines, delimiter="\t"), 1):
                if number == 1 and row[-1:] == ["score"]:
                    continue
                try:
                    query, document, relevance = row
                    qrels.setdefault(query, {})[document] = int(relevance)
                except ValueError as error:
                    raise DatasetError(
                        f"{path}, line {number}: {row!r:.200}; expected a query's id, a document's id and a whole "
                        "number, with tabs between"
                    ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}, after line {number}: expected tab-separated values in UTF-8 ({error})") from error
    if not qrels:
        raise DatasetError(f"{path} judges nothing")
    return qrels
