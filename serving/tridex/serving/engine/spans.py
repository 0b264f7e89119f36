"""The words of a document that a score came from, for people to read.

A score is a sum over all query tokens, and most of it says little: every document has a `[CLS]` and an "and" that are
near to many query tokens. What tells a document from others is how far the largest similarity is above the query
token's mean over the document, its excess. In the best two hits of five questions to the standard library it was 0.35
to 0.75 for content words, and mostly 0.15 to 0.35 for function words.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import regex

_FLOOR = 0.6
"""Of the largest excess in the document: smaller ones are left out."""

_BOUNDARY = regex.compile(r"(?w)\b")
"""Unicode's word boundaries (UAX 29), at which no grapheme is divided; between any two ideographs there is one."""


class Excess(NamedTuple):
    """A query token that found a token of the text."""

    query_token: int
    """Its position."""
    start: int
    end: int
    """Of the text's token: [start, end), code points."""
    excess: float
    """Its similarity less the query token's mean over the document."""


@dataclass
class Span:
    """A word of the text, [start, end) in code points."""

    start: int
    end: int
    score: float
    """The sum of the excesses of the query tokens that it was found by."""
    text: str
    found_by: list[int]
    """Their positions."""


def spans(text: str, found: Sequence[Excess]) -> list[Span]:
    """The words that stand out, in the order of the text; none where nothing is above its mean."""
    floor = _FLOOR * max((one.excess for one in found), default=0.0)
    kept = [one for one in found if one.excess >= floor > 0]
    if not kept:
        return []
    bounds = [0, *(match.start() for match in _BOUNDARY.finditer(text)), len(text)]
    words: list[Span] = []
    for one in sorted(kept, key=lambda one: one.start):
        start, end = bounds[bisect_right(bounds, one.start) - 1], bounds[bisect_left(bounds, one.end)]
        if words and start < words[-1].end:  # The same word, or a token that reaches over several.
            word = words[-1]
            word.end = max(word.end, end)
        else:
            word = Span(start, end, 0.0, "", [])
            words.append(word)
        word.score += one.excess
        word.found_by.append(one.query_token)
    for word in words:
        word.text = text[word.start : word.end]
        word.found_by.sort()
    return words
