"""Tokens with the places in the text that they stand for: what an explanation of a score is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
    is_special: bool
    """Whether it stands for no characters, or for a special token that the text spells out."""

    @property
    def place(self) -> tuple[int, int] | None:
        """Start and end, where it has them."""
        return None if self.start is None or self.end is None else (self.start, self.end)


def text_tokens(
    encoding: tokenizers.Encoding,
    places: Iterable[int],
    prefix: str,
    text: str,
    scores: Iterable[int],
    special: Collection[str],
) -> list[TextToken]:
    """Some tokens of an encoded text.

    Args:
        encoding: Of the prefix followed by the text, with offsets.
        places: Which of its tokens.
        prefix: What the checkpoint puts in front of a text.
        text: The text alone.
        scores: 1 for each of `places` whose embedding scores, else 0.
        special: The tokenizer's special tokens.
    """
    tokens, offsets = encoding.tokens, encoding.offsets
    found = []
    for place, score in zip(places, scores, strict=True):
        token = tokens[place]
        start, end = (min(max(offset - len(prefix), 0), len(text)) for offset in offsets[place])
        if start < end:
            # An unknown word is read as a special token, and is none.
            spelled_out = token in special and text[start:end].strip() == token.strip()
            found.append(TextToken(token, start, end, bool(score), spelled_out))
        else:
            found.append(TextToken(token, None, None, bool(score), is_special=True))
    return found
