"""A text with its spans as pieces to draw, and the query's words with what they found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tridex.client.errors import InvalidArgument
from tridex.client.explanation import Explanation, QueryToken, Span
from tridex.client.results import Hit

_SPACES = re.compile(r"\s+")

_JOINERS = "\u200c\u200d"
"""They print nothing and are part of words and emoji."""

_LEAD = 0.2
"""Of an excerpt: how much of it lies before its first span at most."""


@dataclass(frozen=True)
class Piece:
    """A part of a text that is drawn alike."""

    text: str
    weight: float = 0.0
    """How much it stands out: above 0 for spans, 1 for the strongest of the hit."""
    is_read: bool = True
    """Whether the encoder read it."""
    found_by: tuple[int, ...] = ()
    """As a span has it."""


@dataclass(frozen=True)
class QueryWord:
    """A word of the query, and what it brings."""

    text: str
    contribution: float
    found: str
    """The document's word that it found."""


def explained(hits: Iterable[Hit]) -> list[tuple[Hit, str, Explanation]]:
    """The hits that are explained, each with its text. Raises InvalidArgument where a text is missing."""
    found = []
    for hit in hits:
        if hit.explanation is None:
            continue
        if hit.text is None:
            raise InvalidArgument(f"hits: expected hits with their texts, got {hit.id!r} without (with_text=False)")
        found.append((hit, hit.text, hit.explanation))
    return found


def pieces(text: str, explanation: Explanation) -> list[Piece]:
    """The whole text, in order."""
    strongest = max((span.score for span in explanation.spans), default=1.0)
    first, last = explanation.read
    marked = [
        (span.start, span.end, Piece(span.text, span.score / strongest, found_by=span.found_by))
        for span in explanation.spans
    ]
    drawn: list[Piece] = []
    at = 0
    for start, end, piece in [*marked, (len(text), len(text), Piece(""))]:
        for cut, stop, is_read in (
            (at, min(start, first), False),
            (max(at, first), min(start, last), True),
            (max(at, last), start, False),
        ):
            if cut < stop:
                drawn.append(Piece(text[cut:stop], is_read=is_read))
        if start < end:
            drawn.append(piece)
        at = end
    return drawn


def excerpt(text: str, explanation: Explanation, characters: int) -> list[Piece]:
    """The part of a text with the most in it, as one line without control characters."""
    start = _best_start(text, explanation.spans, characters)
    end = start + characters
    if end < len(text):
        space = text.rfind(" ", end - int(_LEAD * characters), end)
        end = space if space > 0 else end
    cut = []
    at = 0
    for piece in pieces(text, explanation):
        inside = piece.text[max(start - at, 0) : max(end - at, 0)]
        at += len(piece.text)
        if inside:
            cut.append(replace(piece, text=inside))
    shown = list(_one_line(cut))
    rest = Piece("…" if not shown or shown[-1].text[-1] == " " else " …")
    return [Piece("… ")] * (start > 0) + shown + [rest] * (end < len(text))


def query_words(query: str, explanation: Explanation) -> list[QueryWord]:
    """The words that found a span, in the order of the query; tokens of one word as one."""
    by_token = {place: span for span in explanation.spans for place in span.found_by}
    shown = []
    for places in _words(query, explanation.query_tokens):
        found = [by_token[place] for place in places if place in by_token]
        if found:
            tokens = [explanation.query_tokens[place] for place in places]
            brings = sum(token.contribution for token in tokens)
            best = max(found, key=lambda span: span.score)
            shown.append(QueryWord(query[tokens[0].start : tokens[-1].end], brings, best.text))
    return shown


def _words(query: str, tokens: Sequence[QueryToken]) -> list[list[int]]:
    """The positions of the tokens of each word, without special tokens."""
    words: list[list[int]] = []
    for place, token in enumerate(tokens):
        if token.start is None or not token.start < len(query):
            continue
        start = token.start
        if words and tokens[words[-1][-1]].end == start and query[start - 1].isalnum() and query[start].isalnum():
            words[-1].append(place)
        else:
            words.append([place])
    return words


def _best_start(text: str, spans: Sequence[Span], characters: int) -> int:
    """Where an excerpt of so many characters holds the largest sum of scores; at the start of a word."""
    if len(text) <= characters or not spans:
        return 0
    lead = int(_LEAD * characters)

    def start_for(span: Span) -> int:
        return max(0, min(span.start - lead, len(text) - characters))

    def score(start: int) -> float:
        return sum(span.score for span in spans if start <= span.start and span.end <= start + characters)

    start = max(map(start_for, spans), key=score)
    space = text.find(" ", start, start + lead)
    return start if not start or space < 0 else space + 1


def _one_line(cut: Iterable[Piece]) -> Iterator[Piece]:
    """Every run of white space and control characters as one space."""
    ends_in_space = True
    for piece in cut:
        line = _SPACES.sub(" ", "".join(c if c.isprintable() or c in _JOINERS else " " for c in piece.text))
        line = line.lstrip(" ") if ends_in_space else line
        if line:
            ends_in_space = line[-1] == " "
            yield replace(piece, text=line)
