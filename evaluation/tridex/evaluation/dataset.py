"""Collections with judged queries: a folder in BEIR's layout, or a name of ir_datasets (public_datasets.py).

corpus.jsonl[.gz]     {"_id": ..., "title": ..., "text": ...} a line
queries.jsonl[.gz]    {"_id": ..., "text": ...} a line
qrels/SPLIT.tsv       query-id, corpus-id, score, after a line that says so
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tridex.client import Document
from tridex.client.cli.documents import checked, read_path
from tridex.protocol.corpus import CorpusError

Qrels = dict[str, dict[str, int]]
"""How relevant each judged document is, by query."""

DEFAULT_SPLIT = "test"
PUBLIC = "ir_datasets:"
"""In front of a name of ir_datasets."""


class DatasetError(ValueError):
    """What was named is no judged collection. The message names the file, the line and what was expected."""


@dataclass(frozen=True)
class Dataset:
    """A corpus, and the queries of one split that have a judged document."""

    name: str
    """Fit to name a collection of the server: the folder's own name, or that of ir_datasets with - for each /."""
    split: str
    queries: dict[str, str]
    qrels: Qrels
    corpus: Callable[[], Iterator[Document]]

    def documents(self) -> Iterator[Document]:
        """The corpus, one by one, without the documents that have no text. Raises DatasetError."""
        return (document for document in self.corpus() if document.text.strip())


def load_dataset(source: str | Path, split: str | None = None) -> Dataset:
    """Reads queries and judgements; the corpus waits until it is asked for. `split` is "test" where left out.

    Raises DatasetError where a file is missing or malformed, nothing is judged, or a judged query has no text.
    """
    if str(source).startswith(PUBLIC):
        from .public_datasets import load_public

        if split is not None:
            raise DatasetError(f"split is {split!r} beside {source}; expected none, as names of ir_datasets hold it")
        return load_public(str(source).removeprefix(PUBLIC))
    folder, split = Path(source), split or DEFAULT_SPLIT
    qrels = _qrels(folder, split)
    texts = {query.id: query.text for query in _rows(_file(folder, "queries.jsonl", "queries.jsonl.gz"))}
    queries = judged(qrels, texts, f"{folder}: qrels/{split}.tsv", "queries.jsonl")
    return Dataset(folder.resolve().name, split, queries, qrels, lambda: _rows(folder))


def judged(qrels: Qrels, texts: dict[str, str], judge: str, where: str) -> dict[str, str]:
    """The texts of the judged queries. Raises DatasetError where one has none."""
    missing = [query for query in qrels if not texts.get(query, "").strip()]
    if missing:
        raise DatasetError(f"{judge} judges query {missing[0]!r}, which has no text in {where}")
    return {query: texts[query] for query in qrels}


def _file(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DatasetError(f"{folder} has no {names[0]}; expected a folder in BEIR's layout (corpus, queries, qrels)")


def _rows(path: Path) -> Iterator[Document]:
    try:
        for _, row in checked(read_path(path), distinct=True):
            yield Document(*row)
    except CorpusError as error:
        raise DatasetError(str(error)) from error


def _qrels(folder: Path, split: str) -> Qrels:
    there = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))) or "none"
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        raise DatasetError(
            f"{folder} has no qrels/{split}.tsv, and without judgements nothing can be measured; splits there: {there}"
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
