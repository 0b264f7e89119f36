"""Which words of a document a hit was found by: what a search with `explain` gives beside each hit.

MaxSim adds up, over the query's tokens, the largest similarity with a token of the document. An explanation names the
two tokens of each term. Places are half-open ranges of code points, [start, end): of the query for its own tokens, of
the stored text for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Token:
    """A token, and the characters that it stands for."""

    token: str | None
    """The tokenizer's name of it; None where the query came as embeddings."""
    start: int | None
    end: int | None
    """None for a token that stands for no characters: `[CLS]`, the checkpoint's prefix, query expansion."""

    @property
    def is_special(self) -> bool:
        """Whether it is a token that stands for no characters."""
        return self.token is not None and self.start is None


@dataclass(frozen=True)
class DocumentToken(Token):
    """What one stored token embedding stands for."""

    cluster: tuple[Token, ...] = ()
    """In a collection that pools: all tokens that the embedding is the mean of. The token itself is then the one of
    them that is nearest to the query token. Empty elsewhere."""


@dataclass(frozen=True)
class QueryToken(Token):
    """A token of the query, and what it found."""

    similarity: float
    """The largest one with a token of the document."""
    contribution: float
    """To the score: the similarity, or its share of the mean where the checkpoint divides by the query's tokens."""
    match: DocumentToken | None
    """The document's token of that similarity; None for a token that does not score, such as a skipped word."""


@dataclass(frozen=True)
class Span:
    """A word of the text that stands out."""

    start: int
    end: int
    score: float
    """How far the similarities of the query tokens that found it are above their means over the document."""
    text: str
    found_by: tuple[int, ...] = ()
    """The positions of those in `query_tokens`."""


@dataclass(frozen=True)
class Explanation:
    """How a document's MaxSim score came about, over the embeddings as they are stored."""

    score: float
    """MaxSim, the sum of the contributions. In mode "hybrid" the hit's own score is another one."""
    query_tokens: tuple[QueryToken, ...]
    """Every token of the query, in order."""
    spans: tuple[Span, ...]
    """The words that tell this document from others, in the order of the text; few, and often fewer than the matches:
    query tokens whose largest similarity is hardly above their mean are left out."""
    special_share: float
    """Of the score, 0 to 1: what query tokens bring that stand for no characters, or found such a token."""
    exact: bool
    """Whether similarities are those of the embeddings as the encoder made them: stored as float32 and not pooled."""
    read: tuple[int, int]
    """The part of the text that the encoder read, [start, end); a cut document has a rest that nothing can find."""
    document_tokens: tuple[DocumentToken, ...] = ()
    """The document's stored tokens, where the matrix was asked for."""
    matrix: NDArray[np.float32] | None = field(default=None, compare=False)
    """Every similarity, float32 [query tokens, document tokens], 0 for query tokens that do not score; None where it
    was not asked for (`explain_matrix`)."""

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Explanation:
        """From what the server says; keys that this version does not know are left out."""
        matrix = fields.get("matrix")
        return cls(
            score=fields["score"],
            query_tokens=tuple(_query_token(token) for token in fields["query_tokens"]),
            spans=tuple(map(_span, fields["spans"])),
            special_share=fields["special_share"],
            exact=fields["exact"],
            read=(fields["read"][0], fields["read"][1]),
            document_tokens=tuple(map(_document_token, fields.get("document_tokens", ()))),
            matrix=None if matrix is None else np.array(matrix, np.float32),
        )


def _span(span: Mapping[str, Any]) -> Span:
    return Span(span["start"], span["end"], span["score"], span["text"], tuple(span["found_by"]))


def _query_token(token: Mapping[str, Any]) -> QueryToken:
    match = token["match"]
    return QueryToken(
        token["token"],
        token["start"],
        token["end"],
        token["similarity"],
        token["contribution"],
        None if match is None else _document_token(match),
    )


def _document_token(token: Mapping[str, Any]) -> DocumentToken:
    cluster = tuple(Token(member["token"], member["start"], member["end"]) for member in token.get("cluster", ()))
    return DocumentToken(token["token"], token["start"], token["end"], cluster)
