"""Tokens with the places in the text that they stand for: what an explanation of a score is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import tokenizers


@dataclass(frozen=True)
class TextToken:
    """One token that the encoder reads, and the characters of the text that it stands for: [start, end) in code points.

    A token that stands for none (the checkpoint's prefix, `[CLS]`, an expansion token) has None for both.
    """

    token: str
    start: int | None
    end: int | None
    scores: bool
    """Whether its embedding takes part in MaxSim."""

    @property
    def is_special(self) -> bool:
        """Whether it stands for no characters of the text."""
        return self.start is None


def text_tokens(
    encoding: tokenizers.Encoding, places: Iterable[int], prefix: str, text: str, scores: Iterable[int]
) -> list[TextToken]:
    """Some tokens of an encoded text.

    Args:
        encoding: Of the prefix followed by the text, with offsets.
        places: Which of its tokens.
        prefix: What the checkpoint puts in front of a text.
        text: The text alone.
        scores: 1 for each of `places` whose embedding scores, else 0.
    """
    tokens, offsets = encoding.tokens, encoding.offsets
    found = []
    for place, score in zip(places, scores, strict=True):
        start, end = (min(max(offset - len(prefix), 0), len(text)) for offset in offsets[place])
        inside = start < end
        found.append(TextToken(tokens[place], start if inside else None, end if inside else None, bool(score)))
    return found
