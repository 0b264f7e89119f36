"""A state machine: random writes to an index, random questions, and a plain dictionary that must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pytest
from filter_model import matches
from filter_strategies import filters, metadata
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

Rows = dict[str, tuple[str, Mapping[str, Any]]]
"""Text and metadata by id."""

# Ids that a careless SQL filter or a careless sort would get wrong.
IDS = st.sampled_from(
    ["1", "10", "9", "it's", "''", "'; DROP TABLE x; --", "back\\slash", "%", "é", "\U0001f600", "a\nb"]
)
ALL_TEXTS = ["a red planet", "a blue moon", "the ringed giant", "dust and ice"]
TEXTS = st.sampled_from(ALL_TEXTS)
DOCUMENTS = st.dictionaries(IDS, st.tuples(TEXTS, metadata()), min_size=1, max_size=6)


class Index(Protocol):
    """What is tested: a collection with the fields of filter_strategies."""

    def upsert(self, rows: Rows) -> int: ...
    def delete(self, ids: Sequence[str]) -> int: ...
    def delete_matching(self, wanted: dict[str, Any]) -> int: ...
    def search(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> list[tuple[float, str]]: ...
    def count(self, wanted: dict[str, Any] | None) -> int: ...
    def compact(self) -> int: ...
    def scroll(self, limit: int, after: str | None, wanted: dict[str, Any] | None) -> Rows: ...
    def search_words(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> list[tuple[float, str]]: ...


class MutableIndex(RuleBasedStateMachine):
    """A subclass makes `index`, and knows the score of every document for a query, within `tolerance`."""

    index: Index
    tolerance = 0.0

    def expected_scores(self, query: str) -> dict[str, float]:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.model: Rows = {}
        self.version = 0

    @rule(rows=DOCUMENTS)
    def upsert(self, rows: Rows) -> None:
        self._wrote(self.index.upsert(rows))
        self.model.update(rows)

    @rule(ids=st.lists(IDS, min_size=1, max_size=4, unique=True))
    def delete(self, ids: list[str]) -> None:
        self._wrote(self.index.delete(ids))
        for key in ids:
            self.model.pop(key, None)

    @rule(wanted=filters())
    def delete_matching(self, wanted: dict[str, Any]) -> None:
        self._wrote(self.index.delete_matching(wanted))
        self.model = {key: row for key, row in self.model.items() if not matches(wanted, row[1])}

    @rule()
    def compact(self) -> None:
        self._wrote(self.index.compact())

    @rule(query=TEXTS, top_k=st.integers(1, 12), wanted=st.none() | filters())
    def search(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> None:
        found = self.index.search(query, top_k, wanted)
        expected = self._matching(wanted)
        assert found == sorted(found, key=lambda hit: (-hit[0], hit[1].encode()))
        scores = self.expected_scores(query)
        ranked = sorted(expected, key=lambda key: (-scores[key], key.encode()))[:top_k]
        assert [key for _, key in found] == ranked
        assert [score for score, _ in found] == pytest.approx(
            [scores[key] for key in ranked], abs=self.tolerance, rel=0
        )

    @rule(query=TEXTS, top_k=st.integers(1, 12), wanted=st.none() | filters())
    def search_words(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> None:
        """By BM25; the texts share no word but stop words."""
        found = self.index.search_words(query, top_k, wanted)
        expected = [key for key in self._matching(wanted) if self.model[key][0] == query]
        assert found == sorted(found, key=lambda hit: (-hit[0], hit[1].encode()))
        assert len(found) == len({key for _, key in found}) == min(top_k, len(expected))
        assert {key for _, key in found} <= set(expected)

    @rule(limit=st.integers(1, 5), wanted=st.none() | filters())
    def scroll(self, limit: int, wanted: dict[str, Any] | None) -> None:
        after, read = None, {}
        while page := self.index.scroll(limit, after, wanted):
            read |= page
            after = list(page)[-1]
        assert list(read) == self._matching(wanted)
        assert read == {key: self.model[key] for key in read}

    @precondition(lambda self: self.model)
    @rule(wanted=filters())
    def count_matching(self, wanted: dict[str, Any]) -> None:
        assert self.index.count(wanted) == len(self._matching(wanted))

    @invariant()
    def holds_the_model(self) -> None:
        assert self.index.count(None) == len(self.model)

    def _matching(self, wanted: dict[str, Any] | None) -> list[str]:
        keys = [key for key, row in self.model.items() if wanted is None or matches(wanted, row[1])]
        return sorted(keys, key=str.encode)

    def _wrote(self, version: int) -> None:
        assert version >= self.version
        self.version = version
