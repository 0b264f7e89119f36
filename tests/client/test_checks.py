"""What is refused before anything is sent, and how the message reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor

from tridex.client import Document, InvalidArgument, calls, checks
from tridex.protocol import limits

NAN = np.array([[0.5, np.nan]])
DEEP: dict[str, Any] = {}
for _ in range(10_000):
    DEEP = {"operator": "NOT", "conditions": [DEEP]}


@pytest.mark.parametrize(
    ("method", "arguments", "options", "message"),
    [
        ("search", ("docs", ""), {}, "query: expected text that is not empty, got ''"),
        ("search", ("docs", "a\ud800"), {}, r"query: expected text that UTF-8 can encode \(surrogates not allowed\)"),
        ("search", ("docs", "x" * (limits.MAX_TEXT_BYTES + 1)), {}, "query: expected at most 262144 bytes of UTF-8"),
        ("search", ("docs", "ü" * (limits.MAX_TEXT_BYTES // 2 + 1)), {}, "not 262146, got 'üüü"),
        ("search", ("docs", 5), {}, r"query: expected text or finite token embeddings \[tokens, dim\]"),
        ("search", ("docs", None), {}, "query: expected text or finite"),
        ("search", ("docs", b"bytes"), {}, "query: expected text or finite"),
        ("search", ("docs", ["two", "texts"]), {}, "query: expected text or finite"),
        ("search", ("docs", np.ones(4)), {}, r"got an array of shape \(4,\)"),
        ("search", ("docs", np.ones((0, 4))), {}, r"got an array of shape \(0, 4\)"),
        ("search", ("docs", np.ones((1, 2, 4))), {}, r"got an array of shape \(1, 2, 4\)"),
        ("search", ("docs", NAN), {}, "query: expected text or finite"),
        ("search", ("docs", np.array([[1e300]])), {}, "query: expected text or finite"),
        ("search", ("docs", "q"), {"top_k": 0}, "top_k: expected an integer of at least 1, got 0"),
        ("search", ("docs", "q"), {"top_k": 1.5}, "top_k: expected an integer of at least 1, got 1.5"),
        ("search", ("docs", "q"), {"min_version": -1}, "min_version: expected an integer of at least 0, got -1"),
        ("search", ("../etc", "q"), {}, "collection: expected a name like .*, got '../etc'"),
        ("search", ("docs\n", "q"), {}, r"collection: .*, got 'docs\\n'"),
        ("search", (None, "q"), {}, "collection: .*, got None"),
        ("search_batch", ("docs", "one text"), {}, r"queries: expected a sequence of them, \[query\] for one"),
        ("search_batch", ("docs", ["q", ""]), {}, r"queries\[1\]: expected text that is not empty"),
        ("search_batch", ("docs", ["q", np.ones((1, 4))]), {}, "queries: expected all texts, or all embeddings"),
        ("search_batch", ("docs", [np.ones((1, 3)), np.ones((1, 4))]), {}, "got .'3 dimensions', '4 dimensions'"),
        ("rerank", ("q",), {}, "rerank: expected either documents, or collection and ids"),
        ("rerank", ("q", ["d"]), {"ids": ["a"]}, "rerank: expected either"),
        ("rerank", ("q",), {"ids": ["a"]}, "rerank: expected either"),
        ("rerank", ("q", "one text"), {}, r"documents: expected a sequence of them, \[document\] for one"),
        ("rerank", ("q", ["d", ""]), {}, r"documents\[1\]: expected text"),
        ("rerank", ("q", ["d"]), {"top_n": 0}, "top_n: expected an integer of at least 1, got 0"),
        ("rerank", (np.ones((1, 4)), ["d"]), {}, "query: expected text"),
        ("encode_query", ("",), {}, "texts: expected text that is not empty, got ''"),
        ("encode_document", (["a", None],), {}, r"texts\[1\]: expected text that is not empty, got None"),
        (
            "encode_query",
            ("a",),
            {"batch_size": 0},
            "batch_size: expected an integer of at least 1 and at most 64, got 0",
        ),
        ("upsert", ("docs", []), {"batch_size": 65}, "batch_size: expected an integer of at least 1 and at most 64"),
        ("upsert", ("", []), {}, "collection: expected a name like .*, got ''"),
        ("upsert", ("docs", [Document("a", " \n")]), {}, r"documents\[0\].text: expected text that is not empty"),
        ("upsert", ("docs", [Document(7, "t")]), {}, r"documents\[0\].id: .*, got 7"),
        ("upsert", ("docs", [{"id": "a"}]), {}, r"documents\[0\]: expected a Document or a mapping with id, text"),
        ("upsert", ("docs", [{"id": "a", "text": "t", "url": "u"}]), {}, "nothing else, got .*'url'"),
        ("upsert", ("docs", ["text"]), {}, r"documents\[0\]: expected a Document or a mapping"),
        ("upsert", ("docs", [Document("a", "t", {"x": float("nan")})]), {}, r"documents\[0\].metadata: .*JSON object"),
        ("upsert", ("docs", [Document("a", "t", {"x": object()})]), {}, "metadata: .*object is no JSON"),
        ("upsert", ("docs", [Document("a", "t", {"x": "\udfff"})]), {}, "metadata: .*surrogates not allowed"),
        ("upsert", ("docs", [Document("a", "t", "text")]), {}, "metadata: expected a mapping, got 'text'"),
        ("search", ("docs", "q"), {"filters": "year = 2020"}, "filters: expected a mapping, got 'year = 2020'"),
        ("search", ("docs", "q"), {"filters": {"value": object()}}, r"filters: .*JSON object \(object is no JSON\)"),
        ("search", ("docs", "q"), {"filters": {"value": float("nan")}}, "filters: expected a JSON object"),
        ("search", ("docs", "q"), {"filters": DEEP}, r"filters: .*JSON object \(maximum recursion"),
        (
            "search",
            ("docs", "q"),
            {"filters": {"value": "x" * 2**18}},
            "filters: expected at most 262144 bytes of JSON",
        ),
        ("upsert", ("docs", [Document("a", "t", DEEP)]), {}, r"metadata: .*JSON object \(maximum recursion"),
        ("rerank", ("q", ["d"]), {"filters": {"field": "year"}}, "rerank: expected either"),
        ("delete", ("docs",), {}, "delete: expected either ids, or filters with a condition"),
        ("delete", ("docs",), {"filters": {}}, "delete: expected either ids, or filters with a condition"),
        ("delete", ("docs", ["a"]), {"filters": {"field": "year"}}, "delete: expected either"),
        ("scroll", ("docs",), {"limit": 257}, "limit: expected an integer of at least 1 and at most 256, got 257"),
        ("scroll", ("docs",), {"after": 7}, "after: expected an id, a str that is not empty, got 7"),
        ("create_collection", ("docs",), {"fields": {"year": int}}, "fields: expected a mapping of names to types"),
        ("create_collection", ("docs",), {"fields": ["year"]}, "fields: expected a mapping of names to types"),
        ("set_alias", ("a b", "docs"), {}, "alias: expected a name like .*, got 'a b'"),
        ("set_alias", ("live", ""), {}, "collection: expected a name like .*, got ''"),
        ("delete", ("docs", "abc"), {}, r"ids: expected a sequence of them, \[id\] for one, got 'abc'"),
        ("get", ("docs", ["a", 7]), {}, r"ids\[1\]: expected an id, a str that is not empty, got 7"),
        ("count", ("no spaces",), {}, "collection: expected a name like"),
    ],
)
async def test_refused_before_sending(client, triton, method, arguments, options, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        await getattr(client, method)(*arguments, **options)
    assert triton.requests == []
    assert len(str(caught.value)) < 300


async def test_a_request_above_the_message_limit_is_not_called_overload(client, triton, monkeypatch):
    monkeypatch.setattr(limits, "MAX_MESSAGE_BYTES", 1000)
    with pytest.raises(InvalidArgument, match="rerank: expected at most 1000 bytes in one request, got 1063"):
        await client.rerank("query", ["x" * 100] * 10 + ["y" * 10])
    assert triton.requests == []


async def test_arguments_are_all_checked_before_the_first_request(client, triton):
    with pytest.raises(InvalidArgument, match=r"texts\[99\]"):
        await client.encode_query(["a"] * 99 + [""])
    assert triton.requests == []


@given(st.text(min_size=1))
def test_text_arrives_as_it_was_or_is_refused(value):
    try:
        encoded = checks.text("text", value)
    except InvalidArgument:
        assert not value.strip() or any(0xD800 <= ord(character) <= 0xDFFF for character in value)
    else:
        assert encoded.decode() == value


@given(st.lists(st.binary(), min_size=1, max_size=5))
def test_strings_survive_the_wire_format(values):
    call = calls.rerank(b"q", values)
    documents = call.arguments["inputs"][1]
    assert documents.shape() == [1, len(values)]
    assert deserialize_bytes_tensor(documents._get_content()).tolist() == values
