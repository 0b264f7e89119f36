"""Judged collections by the names that ir_datasets gives them, which downloads those that are not on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tridex.client import Document

from .dataset import Dataset, DatasetError, Qrels, judged_queries


def load_public(name: str, split: str | None = None) -> Dataset:
    """A dataset such as "beir/scifact/test": its name holds the split.

    Raises:
        DatasetError: There is none of that name, it lacks documents, queries or judgements, or a split is given.
    """
    if split is not None:
        raise DatasetError(
            f"split is {split!r} beside ir_datasets:{name}; expected none, as names of ir_datasets hold it"
        )
    try:
        import ir_datasets
    except ImportError as error:
        raise DatasetError(
            f"ir_datasets:{name} needs the package ir-datasets, which is not installed: pip install 'tridex[public]'"
        ) from error
    try:
        found = ir_datasets.load(name)
    except KeyError as error:
        raise DatasetError(f"ir_datasets knows no {name!r}; expected a name such as beir/scifact/test") from error
    contents = {"documents": found.has_docs(), "queries": found.has_queries(), "judgements": found.has_qrels()}
    if lacking := [kind for kind, exists in contents.items() if not exists]:
        raise DatasetError(f"{name} of ir_datasets has no {' and no '.join(lacking)}, so nothing can be measured")
    qrels: Qrels = {}
    for row in found.qrels_iter():
        qrels.setdefault(row.query_id, {})[row.doc_id] = row.relevance
    texts = {query.query_id: query.default_text() for query in found.queries_iter()}
    queries = judged_queries(qrels, texts, f"{name} of ir_datasets", "its queries")

    def corpus() -> Iterator[Document]:
        for row in found.docs_iter():
            yield Document(row.doc_id, row.default_text())

    return Dataset(re.sub(r"[^A-Za-z0-9_-]+", "-", name), "", queries, qrels, corpus)
