"""BM25 over a collection's texts: Lance's full text index, kept beside the documents.

    score(q, d) = sum over words w of q of  idf(w) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length))
    idf(w) = ln(1 + (N - n + 0.5) / (n + 0.5)),  k1 = 1.2, b = 0.75          (Robertson and Zaragoza 2009; Lucene's idf)

Words are lower-cased, folded to ASCII, stemmed as English, and English stop words are left out, in queries as in texts:
with both, BM25 had nDCG@10 0.688 on SciFact, 0.384 on Cranfield, 0.483 on CACM and 0.598 on CoSQA; with neither 0.663,
0.349, 0.393 and 0.561. A query is a bag of words: there is no syntax, so there is nothing to escape.

The index is not part of a write. Documents that are not in it yet are searched too, by reading their texts (17 µs
each), with the index's statistics: their scores differ a little until they are indexed. Deleted documents are not
found; they go on counting in the statistics.
"""

from __future__ import annotations

import re
from itertools import islice

import lance
import numpy as np
from lance.query import MatchQuery

from tridex.index.ranking import Ranking, ranked

MAX_QUERY_WORDS = 1024
"""Words of a query that count, the first ones: 65,000 of them, of a text of 256 KiB, took 0.7 s over four documents."""

_INDEX = "text_idx"
_WORD = re.compile(r"[^\W_]+")

_MIN_NEW_DOCUMENTS = 256
"""Documents worth indexing: fewer are read in 5 ms. Indexing takes 12 ms and more, and makes a version."""

_MERGE_RATIO = 8
"""A partition of the index that is not this many times larger than all newer ones is merged with them, as segments are:
one of 21,000 documents takes 0.2 s to make, and each adds to a query's time."""


def create_text_index(dataset: lance.LanceDataset) -> None:
    """Makes the index, of the texts that are there (0.6 s for 20,000 descriptions of 25 words)."""
    dataset.create_scalar_index("text", "INVERTED", name=_INDEX)


def index_new_texts(dataset: lance.LanceDataset) -> bool:
    """Brings the documents written since into the index, in one transaction, if they are worth it.

    Returns whether they were.
    A collection of an earlier version of Tridex gets its index here; until then its words match as they are written.
    """
    if not any(index.name == _INDEX for index in dataset.describe_indices()):
        create_text_index(dataset)
        return True
    about = dataset.stats.index_stats(_INDEX)
    new = int(about["num_unindexed_rows"])
    if new < _MIN_NEW_DOCUMENTS:
        return False
    merged = 0
    for rows in reversed(about["num_indexed_rows_per_delta"]):
        if rows >= _MERGE_RATIO * new:
            break
        merged, new = merged + 1, new + rows
    dataset.optimize.optimize_indices(num_indices_to_merge=merged, index_names=[_INDEX])
    return True


def search_texts(dataset: lance.LanceDataset, query: str, top_k: int, condition: str | None) -> Ranking:
    """The best `top_k` documents by BM25, of those for which the SQL `condition` holds.

    Only documents with a word of the query are in it.
    Where documents tie for the last place, those with the lower ids are in: they are asked for until none is left out.
    """
    words = list(islice(_WORD.finditer(query), MAX_QUERY_WORDS))
    if not words:
        return ranked([])
    match = MatchQuery(query[: words[-1].end()], "text")
    limit = 2 * top_k
    while True:
        rows = dataset.scanner(
            columns=["id", "_score"],
            full_text_query=match,
            filter=condition,
            prefilter=condition is not None,
            limit=limit,
            with_row_address=True,
        ).to_table()
        scores = np.sort(np.asarray(rows["_score"], np.float32))[::-1]
        if len(scores) < limit or scores[-1] < scores[top_k - 1]:
            break
        limit *= 4
    hits = zip(rows["_score"].to_pylist(), rows["id"].to_pylist(), rows["_rowaddr"].to_pylist(), strict=True)
    return ranked(list(hits)).first(top_k)
