"""Rankings as the tensors of a search's answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tridex.index import Ranking, Snapshot
from tridex.protocol import limits, models, parameters
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import Arrays, RequestError, as_strings, invalid

_ROWS_PER_READ = 256
"""Documents whose texts are read at a time, before their bytes are counted."""


def hit_tensors(snapshot: Snapshot, rankings: Sequence[Ranking], with_text: bool, with_metadata: bool) -> Arrays:
    """IDS, SCORES, VERSION and what was asked for of TEXTS and METADATA, a row for each ranking.

    Rows are as long as the longest ranking, and one at least; behind a shorter one stand empty strings and scores of
    -inf. Raises RequestError INVALID_ARGUMENT where the answer would be larger than one may be.
    """
    lengths = [len(ranking.ids) for ranking in rankings]
    is_hit = np.arange(max(1, *lengths)) < np.array(lengths)[:, None]

    def filled(values: Sequence[bytes]) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
        rows = np.full(is_hit.shape, b"", object)
        rows[is_hit] = as_strings(values)
        return rows

    ids = [key.encode() for ranking in rankings for key in ranking.ids]
    room = limits.MAX_ANSWER_BYTES - sum(map(len, ids)) - 8 * is_hit.size
    if room < 0:
        raise _too_large(f"{len(ids)} ids")
    scores = np.full(is_hit.shape, -np.inf, np.float32)
    scores[is_hit] = np.concatenate([ranking.scores for ranking in rankings])
    outputs = {
        models.IDS.name: filled(ids),
        models.SCORES.name: scores,
        models.VERSION.name: np.full((len(rankings), 1), snapshot.version, np.int64),
    }
    if with_text or with_metadata:
        addresses = np.concatenate([ranking.addresses for ranking in rankings])
        texts, metadata = _payload(snapshot, addresses, with_text, with_metadata, room)
        if with_text:
            outputs[models.TEXTS.name] = filled(texts)
        if with_metadata:
            outputs[models.METADATA.name] = filled(metadata)
    return outputs


def _payload(
    snapshot: Snapshot, addresses: NDArray[np.uint64], with_text: bool, with_metadata: bool, room: int
) -> tuple[list[bytes], list[bytes]]:
    """Texts and metadata of the rows at these addresses, as long as what is asked for has room."""
    texts: list[bytes] = []
    metadata: list[bytes] = []
    for start in range(0, len(addresses), _ROWS_PER_READ):
        with translated_errors():
            more = snapshot.collection.payload(addresses[start : start + _ROWS_PER_READ])
        for column, wanted, values in ((texts, with_text, more[0]), (metadata, with_metadata, more[1])):
            if wanted:
                column += [value.encode() for value in values]
                room -= sum(map(len, column[start:]))
        if room < 0:
            raise _too_large("texts and metadata")
    return texts, metadata


def _too_large(what: str) -> RequestError:
    return invalid(
        f"the answer would hold more than {limits.MAX_ANSWER_BYTES} bytes ({what}); expected a smaller "
        f"{parameters.TOP_K}, fewer queries, or {parameters.WITH_TEXT} and {parameters.WITH_METADATA} false"
    )
