"""The served index through random histories of writes, filters and searches: it answers as a dictionary would."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from filter_strategies import FIELDS
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from mutable_index import ALL_TEXTS, MutableIndex, Rows

from tridex.client import Client, Document

_NUMBERS = count()


class Served:
    """A collection of its own, through a client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name = f"history-{next(_NUMBERS)}"
        client.create_collection(self.name, codec="float32", fields=FIELDS)

    def upsert(self, rows: Rows) -> int:
        return self.client.upsert(self.name, [Document(key, *row) for key, row in rows.items()]).version

    def delete(self, ids: Sequence[str]) -> int:
        return self.client.delete(self.name, ids).version

    def delete_matching(self, wanted: dict[str, Any]) -> int:
        return self.client.delete(self.name, filters=wanted).version

    def compact(self) -> int:
        return self.client.compact(self.name)

    def search(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> list[tuple[float, str]]:
        return [(hit.score, hit.id) for hit in self.client.search(self.name, query, top_k=top_k, filters=wanted)]

    def search_words(self, query: str, top_k: int, wanted: dict[str, Any] | None) -> list[tuple[float, str]]:
        found = self.client.search(self.name, query, top_k=top_k, mode="bm25", filters=wanted)
        return [(hit.score, hit.id) for hit in found]

    def count(self, wanted: dict[str, Any] | None) -> int:
        return self.client.count(self.name, filters=wanted)

    def scroll(self, limit: int, after: str | None, wanted: dict[str, Any] | None) -> Rows:
        page = self.client.scroll(self.name, limit=limit, after=after, filters=wanted)
        return {document.id: (document.text, document.metadata) for document in page}


def test_any_history_is_answered_as_a_dictionary_would_be(client: Client) -> None:
    tokens = dict(zip(ALL_TEXTS, client.encode_document(ALL_TEXTS), strict=True))
    scores = {
        query: {text: float((asked @ tokens[text].T).max(axis=1).sum()) for text in ALL_TEXTS}
        for query, asked in zip(ALL_TEXTS, client.encode_query(ALL_TEXTS), strict=True)
    }

    class MutableServer(MutableIndex):
        tolerance = 1e-4

        def __init__(self) -> None:
            super().__init__()
            self.index = Served(client)

        def expected_scores(self, query: str) -> dict[str, float]:
            return {key: scores[query][text] for key, (text, _) in self.model.items()}

        def teardown(self) -> None:
            client.drop_collection(self.index.name)  # type: ignore[attr-defined]

    run_state_machine_as_test(MutableServer, settings=settings(max_examples=8, stateful_step_count=20, deadline=None))
