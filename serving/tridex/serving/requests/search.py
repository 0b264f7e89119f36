"""A search: queries, a mode, and what the answer is to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.index import MAX_QUERY_WORDS
from tridex.protocol import limits, models, parameters
from tridex.protocol.labels import mode_label
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, Sender, invalid
from tridex.serving.modes import Mode, parse_mode

_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True)
class SearchRequest:
    """Queries that come as texts, as token embeddings, or as both."""

    sender: Sender
    collection: str
    """Its name, or an alias."""
    mode: Mode
    texts: list[str]
    """One per query; empty where the queries came as embeddings and the mode needs no text."""
    embeddings: Any | None
    """float32 [queries, tokens, dim], numpy or torch; None until texts are encoded."""
    mask: Any | None
    """[queries, tokens], 0 where a token does not count; None where every token of the embeddings does."""
    top_k: int
    offset: int
    """Hits of each query that are left out, the best ones."""
    min_score: float | None
    normalize: bool
    filters: Any | None
    """Conditions on metadata, decoded from JSON and not checked further."""
    min_version: int
    last_write: int
    with_text: bool
    with_metadata: bool
    explained: int
    """Hits of each query that are explained, as far as there are so many."""
    with_matrix: bool
    """Whether explanations hold every similarity."""

    @classmethod
    def parse(cls, request: Request) -> SearchRequest:
        """Raises RequestError INVALID_ARGUMENT."""
        collection = fields.name(request, parameters.COLLECTION)
        top_k = fields.integer(request, parameters.TOP_K, 1, limits.MAX_TOP_K, default=limits.DEFAULT_TOP_K)
        offset = fields.integer(request, parameters.OFFSET, 0, limits.MAX_TOP_K - top_k, default=0)
        mode = parse_mode(request, top_k + offset)
        request.sender.timeline.is_about("search", mode_label(mode.name, mode.exact), top_k=top_k)
        normalize = fields.flag(request, parameters.NORMALIZE, default=False)
        if normalize and not mode.scores_are_maxsim and mode.largest_score is None:
            raise invalid(
                f"parameter {parameters.NORMALIZE} is true in a search of mode {mode.name}, whose scores have no "
                "largest one; expected another mode, or false"
            )
        embeddings, mask = _embeddings(request)
        texts = []
        if mode.needs_text or embeddings is None or request.get(models.QUERY) is not None:
            texts = fields.texts(request, models.QUERY)
        if mode.needs_text:
            _check_words(texts)
        parsed = cls(
            sender=request.sender,
            collection=collection,
            mode=mode,
            texts=texts,
            embeddings=embeddings,
            mask=mask,
            top_k=top_k,
            offset=offset,
            min_score=fields.number(request, parameters.MIN_SCORE),
            normalize=normalize,
            filters=fields.json_value(request, parameters.FILTERS),
            min_version=fields.integer(request, parameters.MIN_VERSION, 0, _MAX_VERSION, default=0),
            last_write=fields.integer(request, parameters.LAST_WRITE, 0, _MAX_VERSION, default=0),
            with_text=fields.flag(request, parameters.WITH_TEXT),
            with_metadata=fields.flag(request, parameters.WITH_METADATA),
            explained=fields.integer(request, parameters.EXPLAIN, 0, limits.MAX_EXPLAINED, default=0),
            with_matrix=fields.flag(request, parameters.EXPLAIN_MATRIX, default=False),
        )
        parsed._check_explained()
        if parsed.queries * parsed.ranked > limits.MAX_HITS:
            raise invalid(
                f"parameter {parameters.TOP_K} is {top_k} for {parsed.queries} queries"
                f"{f', after {offset}' if offset else ''}; expected at most {limits.MAX_HITS} hits in one request, "
                f"{limits.MAX_HITS // parsed.queries} a query"
            )
        return parsed

    def _check_explained(self) -> None:
        if self.with_matrix and not self.explained:
            raise invalid(
                f"parameter {parameters.EXPLAIN_MATRIX} is true where no hit is explained; expected it with "
                f"{parameters.EXPLAIN}"
            )
        if self.explained and not self.mode.needs_embeddings:
            raise invalid(
                f"parameter {parameters.EXPLAIN} is {self.explained} in a search of mode {self.mode.name}, which "
                "compares no token embeddings; expected 0"
            )
        if self.queries * self.explained > limits.MAX_EXPLAINED:
            raise invalid(
                f"parameter {parameters.EXPLAIN} is {self.explained} for {self.queries} queries; expected at most "
                f"{limits.MAX_EXPLAINED} explained hits in one request: send fewer queries at a time"
            )

    @property
    def queries(self) -> int:
        """How many there are."""
        return len(self.texts) if self.embeddings is None else len(self.embeddings)

    @property
    def ranked(self) -> int:
        """Documents of each query's ranking, up to the last hit."""
        return self.offset + self.top_k

    @property
    def must_be_encoded(self) -> bool:
        """Whether the mode needs embeddings that the request does not have yet."""
        return self.mode.needs_embeddings and self.embeddings is None

    def encoded(self, embeddings: NDArray[np.float32], mask: NDArray[np.int64]) -> SearchRequest:
        """The same search with its texts' embeddings, [queries, tokens, dim], and their mask, [queries, tokens]."""
        return replace(self, embeddings=embeddings, mask=mask)


def _embeddings(request: Request) -> tuple[Any | None, Any | None]:
    """The query embeddings and their mask, where the request has them. Their dim is the collection's to check."""
    embeddings, mask = request.get(models.QUERY_EMBEDDINGS), request.get(models.QUERY_MASK)
    if embeddings is None:
        return None, None
    shape = tuple(embeddings.shape)
    if len(shape) > 1 and shape[0] * shape[1] > limits.MAX_QUERY_TOKENS:
        raise invalid(
            f"input {models.QUERY_EMBEDDINGS.name} has shape {list(shape)}, {shape[0] * shape[1]} tokens; expected at "
            f"most {limits.MAX_QUERY_TOKENS} in one request: send fewer queries at a time"
        )
    if mask is not None and tuple(mask.shape) != shape[:2]:
        raise invalid(
            f"input {models.QUERY_MASK.name} has shape {list(mask.shape)}; expected {list(shape[:2])}, "
            f"one number per token of {models.QUERY_EMBEDDINGS.name}"
        )
    return embeddings, mask


def _check_words(texts: Sequence[str]) -> None:
    """Refuses queries of too many words for BM25."""
    words = sum(len(text.split(maxsplit=MAX_QUERY_WORDS)) for text in texts)
    if words > limits.MAX_QUERY_WORDS:
        raise invalid(
            f"input {models.QUERY.name} holds {words} words; expected at most {limits.MAX_QUERY_WORDS} in one request: "
            "send fewer queries at a time"
        )
