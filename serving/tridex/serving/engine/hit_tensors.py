"""Rankings as the tensors of searches' answers: made for a whole batch at once, as far as answers have one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tridex.index import Collection, Ranking, Snapshot
from tridex.protocol import limits, models, parameters
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import Arrays, RequestError, as_strings, invalid

_ROWS_PER_READ = 256
"""Documents whose texts are read at a time, before their bytes are counted."""


@dataclass(frozen=True)
class Hits:
    """What a search found, and what of it the answer is to hold."""

    snapshot: Snapshot
    rankings: Sequence[Ranking]
    """One for each query."""
    with_text: bool
    with_metadata: bool


@dataclass
class _Strings:
    """The strings of one answer, a hit after the other."""

    ids: list[bytes]
    room: int
    """Bytes that the answer may still hold."""
    texts: list[bytes] = field(default_factory=list)
    metadata: list[bytes] = field(default_factory=list)


def hit_tensors(searches: Sequence[Hits]) -> list[Arrays | RequestError]:
    """IDS, SCORES, VERSION and what was asked for of TEXTS and METADATA of each search, a row for each ranking.

    A search's rows are as long as its longest ranking, and one at least; behind a shorter one stand empty strings and
    scores of -inf. RequestError INVALID_ARGUMENT where the answer would be larger than one may be, or what kept its
    documents from being read.
    """
    answers: dict[int, Arrays | RequestError] = {}
    strings: dict[int, _Strings] = {}
    to_read: dict[int, list[int]] = {}
    shapes: dict[tuple[int, bool, bool], list[int]] = {}
    for i, search in enumerate(searches):
        width = max(1, *(len(ranking.ids) for ranking in search.rankings))
        ids = [key.encode() for ranking in search.rankings for key in ranking.ids]
        room = limits.MAX_ANSWER_BYTES - sum(map(len, ids)) - 8 * width * len(search.rankings)
        if room < 0:
            answers[i] = _too_large(f"{len(ids)} ids")
            continue
        strings[i] = _Strings(ids, room)
        shapes.setdefault((width, search.with_text, search.with_metadata), []).append(i)
        if search.with_text or search.with_metadata:
            to_read.setdefault(id(search.snapshot.collection), []).append(i)
    for members in to_read.values():
        answers.update(_read(members, searches, strings))
    for (width, _, _), alike in shapes.items():
        members = [i for i in alike if i not in answers]
        if members:
            tensors = _tensors([searches[i] for i in members], [strings[i] for i in members], width)
            answers.update(zip(members, tensors, strict=True))
    return [answers[i] for i in range(len(searches))]


def _tensors(searches: Sequence[Hits], strings: Sequence[_Strings], width: int) -> list[Arrays]:
    """The answers of searches that ask for the same and have rows of the same width."""
    rankings = [ranking for search in searches for ranking in search.rankings]
    is_hit = np.arange(width) < np.array([len(ranking.ids) for ranking in rankings])[:, None]
    scores = np.full(is_hit.shape, -np.inf, np.float32)
    scores[is_hit] = np.concatenate([ranking.scores for ranking in rankings])
    ends = np.cumsum([len(search.rankings) for search in searches]).tolist()
    versions = np.repeat([search.snapshot.version for search in searches], np.diff(ends, prepend=0))[:, None]
    columns = {models.IDS.name: [one.ids for one in strings]}
    if searches[0].with_text:
        columns[models.TEXTS.name] = [one.texts for one in strings]
    if searches[0].with_metadata:
        columns[models.METADATA.name] = [one.metadata for one in strings]
    tensors = {models.SCORES.name: scores, models.VERSION.name: versions}
    for name, of_searches in columns.items():
        tensors[name] = np.full(is_hit.shape, b"", object)
        tensors[name][is_hit] = as_strings([value for values in of_searches for value in values])
    return [
        {name: tensor[end - len(search.rankings) : end] for name, tensor in tensors.items()}
        for search, end in zip(searches, ends, strict=True)
    ]


def _read(members: Sequence[int], searches: Sequence[Hits], strings: dict[int, _Strings]) -> dict[int, RequestError]:
    """Reads the texts and metadata of these searches, which are of one collection; returns what kept some from it."""
    try:
        return _read_together(members, searches, strings)
    except RequestError as error:
        if len(members) == 1:
            return {members[0]: error}
    failed: dict[int, RequestError] = {}
    for i in members:  # each by itself, so that one alone can fail
        strings[i].texts.clear()
        strings[i].metadata.clear()
        failed.update(_read([i], searches, strings))
    return failed


def _read_together(
    members: Sequence[int], searches: Sequence[Hits], strings: dict[int, _Strings]
) -> dict[int, RequestError]:
    collection: Collection = searches[members[0]].snapshot.collection
    addresses = np.concatenate([ranking.addresses for i in members for ranking in searches[i].rankings])
    owners = np.repeat(members, [len(strings[i].ids) for i in members])
    failed: dict[int, RequestError] = {}
    while len(addresses):
        with translated_errors():
            texts, metadata = collection.payload(addresses[:_ROWS_PER_READ])
        for i, text, of_text in zip(owners[:_ROWS_PER_READ].tolist(), texts, metadata, strict=True):
            one = strings[i]
            if searches[i].with_text:
                one.texts.append(text.encode())
                one.room -= len(one.texts[-1])
            if searches[i].with_metadata:
                one.metadata.append(of_text.encode())
                one.room -= len(one.metadata[-1])
        addresses, owners = addresses[_ROWS_PER_READ:], owners[_ROWS_PER_READ:]
        full = [i for i in members if strings[i].room < 0 and i not in failed]
        if full:
            failed.update(dict.fromkeys(full, _too_large("texts and metadata")))
            left = ~np.isin(owners, full)
            addresses, owners = addresses[left], owners[left]
    return failed


def _too_large(what: str) -> RequestError:
    return invalid(
        f"the answer would hold more than {limits.MAX_ANSWER_BYTES} bytes ({what}); expected a smaller "
        f"{parameters.TOP_K}, fewer queries, or {parameters.WITH_TEXT} and {parameters.WITH_METADATA} false"
    )
