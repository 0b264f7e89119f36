"""Explanations of hits: what each query token found in a document, over the stored codes that the score is made of.

A collection stores no tokens, so the text of an explained document is tokenised again, and where the collection pools,
encoded and pooled again: only then is it known which tokens a stored embedding stands for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tridex.building import document_reading
from tridex.encoding import DocumentReading, Manifest, TextToken, TokenBatch, Tokenizer, cluster_means, pool_members
from tridex.index import CollectionSpec, Ranking, Snapshot, TokenMatches
from tridex.kernels import Codec
from tridex.protocol import limits, models, parameters
from tridex.serving.backend.error_translation import translated_errors
from tridex.serving.backend.service import Arrays, ErrorCode, RequestError, abandoned, as_strings, invalid
from tridex.serving.modes import Queries
from tridex.serving.requests.search import SearchRequest

from .spans import Excess, spans

_UNKNOWN = TextToken("", None, None, scores=True, is_special=False)
"""A token that nobody named: of a query that came as embeddings, or that no token of a pooled text went to."""


class Explainer:
    """Explains hits of one checkpoint's collections."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: Tokenizer,
        encode: Callable[[Sequence[TokenBatch]], list[NDArray[np.float32]]],
    ) -> None:
        """`encode`: tokens of several texts, [1, tokens] each, to their embeddings, float32 [1, tokens, dim]."""
        self._manifest = manifest
        self._mean = manifest.rules.similarity == "meanmaxsim"
        self._tokenizer = tokenizer
        self._encode = encode

    def with_explanations(
        self, answer: Arrays, request: SearchRequest, queries: Queries, snapshot: Snapshot, rankings: Sequence[Ranking]
    ) -> Arrays:
        """The answer with EXPLANATIONS of the best hits of each query.

        Raises RequestError INVALID_ARGUMENT where it would be larger than an answer may be.
        """
        explanations = np.full(answer[models.IDS.name].shape, b"", object)
        for i, ranking in enumerate(rankings):
            query = queries.embeddings[i][queries.mask[i]]
            tokens = self._query_tokens(request.texts[i] if request.texts else None, len(query))
            best = ranking.first(request.explained)
            with translated_errors():
                matches = snapshot.explain(query, best.ids)
                texts, _ = snapshot.collection.payload(best.addresses)
            rows = [
                self._explanation(snapshot, key, text, query.cpu().numpy(), tokens, match, request)
                for key, text, match in zip(best.ids, texts, matches, strict=True)
            ]
            explanations[i, : len(rows)] = as_strings(rows)
        strings = [array for array in (*answer.values(), explanations) if array.dtype == object]
        size = sum(len(value) for array in strings for value in array.flat)
        if size > limits.MAX_ANSWER_BYTES:
            raise invalid(
                f"the answer would hold {size} bytes with its explanations; expected at most "
                f"{limits.MAX_ANSWER_BYTES}: a smaller {parameters.EXPLAIN}, or {parameters.EXPLAIN_MATRIX} false"
            )
        return {**answer, models.EXPLANATIONS.name: explanations}

    def _query_tokens(self, text: str | None, scoring: int) -> list[TextToken]:
        """The query's tokens, of which so many score; without names where its embeddings are not of that text."""
        tokens = [] if text is None else self._tokenizer.query_tokens(text)
        return tokens if sum(token.scores for token in tokens) == scoring else [_UNKNOWN] * scoring

    def _explanation(
        self,
        snapshot: Snapshot,
        key: str,
        text: str,
        query: NDArray[np.float32],
        query_tokens: Sequence[TextToken],
        match: TokenMatches | None,
        request: SearchRequest,
    ) -> str:
        """JSON; empty for a document without tokens, of which there is nothing to say."""
        if match is None or not match.matrix.shape[1]:
            return ""
        if request.sender.has_left:
            raise abandoned()
        spec = snapshot.collection.spec
        reading = document_reading(spec, self._manifest)
        windows = self._tokenizer.document_tokens(text, reading)
        document = _Document(
            windows, match, *self._stored_as(text, reading, query, match), is_pooled=reading.pooling_factor > 1
        )
        if len(document.stored_as) != len(document.tokens):
            raise RequestError(
                ErrorCode.INTERNAL,
                f"document {key!r} of collection {snapshot.collection.name!r} has {len(document.stored_as)} token "
                f"embeddings, its text {len(document.tokens)} tokens that score: write it again to have it explained",
            )
        # As the score is made: of normalised scores, too.
        weight = 1 / max(1, len(query)) if self._mean or request.normalize else 1.0
        described = document.described(text, query_tokens, weight)
        read = [place for token in chain(*windows) if (place := token.place)]
        described["read"] = [min((start for start, _ in read), default=0), max((end for _, end in read), default=0)]
        described["exact"] = _is_exact(spec)
        if request.with_matrix:
            described |= document.matrix(query_tokens)
        return json.dumps(described, allow_nan=False)

    def _stored_as(
        self, text: str, reading: DocumentReading, query: NDArray[np.float32], match: TokenMatches
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Which stored embedding each scoring token of the text is part of, [tokens], and the query's similarities with
        the tokens, [query tokens, tokens]."""
        if reading.pooling_factor == 1:
            return np.arange(match.matrix.shape[1]), match.matrix
        rows = list(self._tokenizer.read([text], reading)[0].rows())
        windows = [
            embeddings[0][row.embedding_mask[0] != 0] for row, embeddings in zip(rows, self._encode(rows), strict=True)
        ]
        clusters = []
        for window in windows:
            members = pool_members(window, reading.pooling_factor)
            # By what is nearest, not by order: another precision of the encoder may have clustered otherwise.
            stored = (match.embeddings @ cluster_means(window, members).T).argmax(axis=0)
            clusters.append(stored[members])
        return np.concatenate(clusters), query @ np.concatenate(windows).T


class _Document:
    """One document's tokens, and what the query found among them.

    Attributes:
        tokens: Those of the text that score, window after window.
        stored_as: int64 [tokens]: which stored embedding each is part of.
        near: float32 [query tokens, tokens].
    """

    def __init__(
        self,
        windows: Sequence[Sequence[TextToken]],
        match: TokenMatches,
        stored_as: NDArray[np.int64],
        near: NDArray[np.float32],
        is_pooled: bool,
    ) -> None:
        self.tokens = [token for window in windows for token in window if token.scores]
        self.stored_as = stored_as
        self.near = near
        self._match = match
        order = np.argsort(stored_as, kind="stable")
        bounds = np.searchsorted(stored_as[order], np.arange(match.matrix.shape[1] + 1))
        self._members = [order[first:end] for first, end in pairwise(bounds.tolist())]
        self._is_pooled = is_pooled

    def described(self, text: str, query_tokens: Sequence[TextToken], weight: float) -> dict[str, Any]:
        """The score, query_tokens, spans and special_share of an explanation."""
        match = self._match
        found: list[Excess] = []
        described = []
        contributions: list[float] = []
        special: list[bool] = []
        scoring = -1
        for place, token in enumerate(query_tokens):
            if not token.scores:
                described.append({**_place(token), "similarity": 0.0, "contribution": 0.0, "match": None})
                continue
            scoring += 1
            nearest = int(match.nearest[scoring])
            similarity = float(match.similarities[scoring])
            token_found = self._token(nearest, scoring)
            contributions.append(_number(similarity * weight))
            special.append(token.is_special or token_found.is_special)
            described.append(
                {
                    **_place(token),
                    "similarity": _number(similarity),
                    "contribution": contributions[-1],
                    "match": {**_place(token_found), **self._cluster(nearest)},
                }
            )
            if not token.is_special:
                found += self._excess(place, scoring)
        total = sum(map(abs, contributions))
        share = sum(abs(value) for value, is_special in zip(contributions, special, strict=True) if is_special)
        return {
            "score": _number(sum(contributions)),
            "query_tokens": described,
            "spans": [{**vars(span), "score": _number(span.score)} for span in spans(text, found)],
            "special_share": _number(share / total) if total else 0.0,
        }

    def matrix(self, query_tokens: Sequence[TextToken]) -> dict[str, Any]:
        """Every similarity, of query tokens that do not score 0, and the document's tokens."""
        scoring = iter(self._match.matrix)
        width = self._match.matrix.shape[1]
        return {
            "document_tokens": [{**_place(self._token(j)), **self._cluster(j)} for j in range(width)],
            "matrix": [
                [_number(value) for value in next(scoring).tolist()] if token.scores else [0.0] * width
                for token in query_tokens
            ],
        }

    def _token(self, stored: int, query_token: int | None = None) -> TextToken:
        """The token that a stored embedding stands for: of several, the one nearest to a query token, or the first."""
        members = self._members[stored]
        if not len(members):
            return _UNKNOWN
        best = 0 if query_token is None else int(self.near[query_token, members].argmax())
        return self.tokens[int(members[best])]

    def _cluster(self, stored: int) -> dict[str, Any]:
        """Where the collection pools: all tokens that a stored embedding is the mean of."""
        if not self._is_pooled:
            return {}
        return {"cluster": [_place(self.tokens[member]) for member in self._members[stored]]}

    def _excess(self, place: int, scoring: int) -> list[Excess]:
        """How far the nearest token of the text is above the mean; nothing where no token is of the text.

        Args:
            place: The query token's position.
            scoring: Its position among those that score.
        """
        similarities = self._match.matrix[scoring]
        for stored in np.argsort(-similarities, kind="stable").tolist():
            token = self._token(stored, scoring)
            if not token.is_special and token.place:
                return [Excess(place, *token.place, float(similarities[stored] - similarities.mean(dtype=np.float64)))]
        return []


def _is_exact(spec: CollectionSpec) -> bool:
    """Whether similarities are those of the encoder's embeddings, neither rounded nor pooled."""
    return spec.codec is Codec.FLOAT32 and spec.pooling_factor == 1


def _place(token: TextToken) -> dict[str, Any]:
    return {"token": token.token or None, "start": token.start, "end": token.end}


def _number(value: float) -> float:
    """Seven digits, which is what float32 has."""
    return float(f"{value:.7g}")
