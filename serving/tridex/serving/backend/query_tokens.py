"""Queries to tokens, those of several requests in one call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from weakref import ref

from tridex.encoding import TokenBatch, Tokenizer
from tridex.protocol import limits

_CHARACTERS_TOGETHER = 1 << 15
"""Of the queries of one call; a text of 256 KiB takes 0.1 s, and then others wait for their turn."""


class _Query:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: TokenBatch | None = None


class QueryTokens:
    """Tokenises queries when the first of them is wanted, together with those of other requests that wait."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._waiting: deque[ref[_Query]] = deque()
        """Not the queries themselves: those of a request that was refused go with it."""

    def rows(self, texts: Sequence[str]) -> Iterator[TokenBatch]:
        """The texts' tokens, [1, tokens] each, which are made when they are wanted."""
        queries = [_Query(text) for text in texts]
        with self._lock:
            self._waiting.extend(map(ref, queries))
        return self._tokens(queries)

    def _tokens(self, queries: Sequence[_Query]) -> Iterator[TokenBatch]:
        for query in queries:
            with self._lock:
                while query.tokens is None:
                    self._tokenise_some()
            yield query.tokens

    def _tokenise_some(self) -> None:
        """Tokenises the next queries."""
        together: list[_Query] = []
        characters = 0
        while self._waiting and len(together) < limits.MAX_BATCH:
            query = self._waiting[0]()
            if query is not None:
                characters += len(query.text)
                if together and characters > _CHARACTERS_TOGETHER:
                    break
                together.append(query)
            self._waiting.popleft()
        rows = self._tokenizer.queries([query.text for query in together]).rows()
        for query, tokens in zip(together, rows, strict=True):
            query.tokens = tokens
