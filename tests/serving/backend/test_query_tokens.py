"""Queries are tokenised together, whose requests they may be, and as each would be alone."""

from __future__ import annotations

import numpy as np
import pytest

from tridex.encoding import TokenBatch, Tokenizer, latest_version_dir, load_artifact
from tridex.serving.backend.query_tokens import QueryTokens
from tridex.serving.backend.service import Context


def test_queries_of_several_requests_are_one_call(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_artifact(latest_version_dir(context.repository / "encoder")).tokenizer()
    calls: list[list[str]] = []
    queries = Tokenizer.queries

    def counted(self: Tokenizer, texts: list[str]) -> TokenBatch:
        calls.append(list(texts))
        return queries(self, texts)

    texts = [["red planet", "a"], ["x" * 100_000], ["blue moon over the red planet of dust"], [], ["y"]]
    alone = [[tokenizer.queries([text]) for text in of_request] for of_request in texts]
    monkeypatch.setattr(Tokenizer, "queries", counted)
    tokens = QueryTokens(tokenizer)
    requests = [tokens.rows(of_request) for of_request in texts]
    del requests[2]  # refused: nothing is done for it
    made = [list(rows) for rows in requests]
    assert calls == [["red planet", "a"], ["x" * 100_000], ["y"]]
    for of_request, expected in zip(made, [*alone[:2], *alone[3:]], strict=True):
        for row, single in zip(of_request, expected, strict=True):
            for name, array in vars(row).items():
                np.testing.assert_array_equal(array, getattr(single, name))
