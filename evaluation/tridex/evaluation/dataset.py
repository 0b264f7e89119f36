"""What a judged collection is, wherever it comes from: beir.py and public_datasets.py read them, loading.py chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tridex.client import Document
from tridex.common import TridexError

Qrels = dict[str, dict[str, int]]
"""How relevant each judged document is, by query."""


class DatasetError(TridexError):
    """What was named is no judged collection. The message names the file, the line and what was expected."""


@dataclass(frozen=True)
class Dataset:
    """A corpus, and the queries of one split that have a judged document."""

    name: str
    """Fit to name a collection of the server: the folder's own name, or that of ir_datasets with - for each /."""
    split: str
    queries: dict[str, str]
    """Texts by id."""
    qrels: Qrels
    corpus: Callable[[], Iterator[Document]]
    """Reads the documents, as often as it is called."""

    def documents(self) -> Iterator[Document]:
        """The corpus, one by one, without the documents that have no text. Raises DatasetError."""
        return (document for document in self.corpus() if document.text.strip())


def judged_queries(qrels: Qrels, texts: dict[str, str], judgements: str, queries: str) -> dict[str, str]:
    """The texts of the judged queries.

    Args:
        qrels: The judgements.
        texts: Every query's text, by id.
        judgements: Where the judgements come from, for the message.
        queries: Where the texts come from, for the message.

    Raises:
        DatasetError: A judged query has no text.
    """
    missing = [query for query in qrels if not texts.get(query, "").strip()]
    if missing:
        raise DatasetError(f"{judgements} judges query {missing[0]!r}, which has no text in {queries}")
    return {query: texts[query] for query in qrels}
