"""Rankings as the tensors of an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tridex.index import Ranking, View
from tridex.protocol import models

from .refusals import refusing
from .service import Arrays, as_strings


def answer_of(view: View, rankings: Sequence[Ranking], with_text: bool, with_metadata: bool) -> Arrays:
    """IDS, SCORES, VERSION and what was asked for of TEXTS and METADATA, a row for each ranking.

    Rows are as long as the longest ranking; behind a shorter one stand empty strings and scores of -inf.
    """
    lengths = [len(ranking.ids) for ranking in rankings]
    there = np.arange(max(lengths)) < np.array(lengths)[:, None]

    def filled(values: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
        rows = np.full(there.shape, b"", object)
        rows[there] = as_strings(values)
        return rows

    scores = np.full(there.shape, -np.inf, np.float32)
    scores[there] = np.concatenate([ranking.scores for ranking in rankings])
    outputs = {
        models.IDS.name: filled([key for ranking in rankings for key in ranking.ids]),
        models.SCORES.name: scores,
        models.VERSION.name: np.full((len(rankings), 1), view.version, np.int64),
    }
    if with_text or with_metadata:
        with refusing():
            texts, metadata = view.collection.payload(np.concatenate([ranking.addresses for ranking in rankings]))
        if with_text:
            outputs[models.TEXTS.name] = filled(texts)
        if with_metadata:
            outputs[models.METADATA.name] = filled(metadata)
    return outputs
