"""The budgets of one request, made small: what is over them is refused by name, before more of it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from service_requests import answers, strings, upsert

from tridex.index import Collection
from tridex.protocol import limits
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError, Service
from tridex.serving.models.catalog import CatalogService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService


@pytest.fixture
def stored(context: Context) -> str:
    """A collection of ten documents of 100 characters."""
    ingest = IngestService(context)
    (version,) = answers(ingest, [upsert("c", {f"d{i}": f"{i} " + "word " * 20 for i in range(10)})])
    ingest.close()
    assert not isinstance(version, RequestError)
    return "c"


@pytest.fixture
def search(context: Context, stored: str) -> Iterator[SearchService]:
    assert stored
    service = SearchService(context)
    yield service
    service.close()


def refusal(service: Service, inputs: dict[str, Any], **parameters: Any) -> str:
    (answer,) = answers(service, [Request(inputs, parameters)])
    assert isinstance(answer, RequestError) and answer.code is ErrorCode.INVALID_ARGUMENT, answer
    return str(answer)


def test_tokens_to_encode(search: SearchService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ENCODED_TOKENS", 40)
    texts = strings(*["some words to read"] * 30)
    expected = "expected at most so many in one request: send fewer texts at a time"
    assert f"input DOCUMENT holds texts of more than 40 tokens; {expected}" in refusal(search, {"DOCUMENT": texts})
    rerank = {"QUERY_TO_RERANK": strings("words"), "DOCUMENTS": texts.T}
    assert f"input DOCUMENTS holds texts of more than 40 tokens; {expected}" in refusal(search, rerank)


def test_bytes_of_encodings(search: SearchService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 1000)
    said = refusal(search, {"DOCUMENT": strings(*["some words to read"] * 30)})
    assert "input DOCUMENT holds a text of" in said and "more than 1000 bytes" in said


def test_tokens_of_an_upsert(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_DOCUMENT_TOKENS", 40)
    ingest = IngestService(context)
    try:
        request = upsert("c", {str(i): "some words to read" for i in range(30)})
        (answer,) = answers(ingest, [request])
        assert isinstance(answer, RequestError) and answer.code is ErrorCode.INVALID_ARGUMENT
        assert "input TEXT holds texts of more than 40 tokens" in str(answer)
    finally:
        ingest.close()


def test_hits_are_counted_in_bytes(search: SearchService, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"QUERY": strings(*["words"] * 3)}
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 3000)
    assert "more than 3000 bytes (texts and metadata)" in refusal(search, inputs, collection=stored)
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 100)
    assert "more than 100 bytes (30 ids)" in refusal(search, inputs, collection=stored, with_text=False)


def test_documents_are_read_no_further_than_they_fit(
    context: Context, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_ANSWER_BYTES", 1000)
    read: list[str] = []
    get = Collection.get

    def counted(collection: Collection, ids: Sequence[str]) -> Any:
        read.extend(ids)
        return get(collection, ids)

    monkeypatch.setattr(Collection, "get", counted)
    ids = np.array([[f"d{i % 10}".encode() for i in range(1000)]], object)
    said = refusal(CatalogService(context), {"IDS": ids}, collection=stored, operation="get")
    assert "of more than 1000 bytes; expected fewer ids, 7 of these 1000 at most" in said
    assert len(read) < 100
