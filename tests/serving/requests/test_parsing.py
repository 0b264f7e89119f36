"""Requests as typed values: defaults, every operation, and nothing left to read afterwards."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from service_requests import delete, strings, upsert

from tridex.index import Document, FieldType
from tridex.kernels import Codec
from tridex.protocol.parameters import CatalogOperation, IfExists, IngestOperation, LongDocuments
from tridex.serving.backend.service import ErrorCode, Request, RequestError, Sender
from tridex.serving.modes.bm25 import Bm25
from tridex.serving.modes.maxsim import MaxSim
from tridex.serving.requests.catalog import (
    CountRequest,
    FacetRequest,
    GetRequest,
    MinMaxRequest,
    ScrollRequest,
    parse_catalog_request,
)
from tridex.serving.requests.encode import EncodeRequest
from tridex.serving.requests.ingest import (
    CreateRequest,
    DeleteMatchingRequest,
    DeleteRequest,
    SetAliasRequest,
    UpsertRequest,
    parse_ingest_request,
)
from tridex.serving.requests.rerank import RerankRequest
from tridex.serving.requests.search import SearchRequest

SENDER = Sender(timeout_s=1.0)
NO_IDS = strings().reshape(1, 0)


def test_a_search_has_its_defaults_and_never_changes() -> None:
    parsed = SearchRequest.parse(Request({"QUERY": strings("one", "two")}, {"collection": "c"}, SENDER))
    assert parsed == SearchRequest(
        sender=SENDER,
        collection="c",
        mode=MaxSim(),
        texts=["one", "two"],
        embeddings=None,
        mask=None,
        top_k=10,
        offset=0,
        min_score=None,
        normalize=False,
        filters=None,
        min_version=0,
        last_write=0,
        with_text=True,
        with_metadata=True,
        explained=0,
        with_matrix=False,
    )
    assert parsed.queries == 2 and parsed.must_be_encoded
    encoded = parsed.encoded(np.ones((2, 3, 4), np.float32), np.ones((2, 3), np.int64))
    assert encoded.queries == 2 and not encoded.must_be_encoded
    with pytest.raises(FrozenInstanceError):
        parsed.top_k = 3  # type: ignore[misc]


def test_a_search_by_words_is_not_encoded() -> None:
    parsed = SearchRequest.parse(Request({"QUERY": strings("one")}, {"collection": "c", "mode": "bm25"}))
    assert parsed.mode == Bm25() and not parsed.must_be_encoded


def test_a_mask_that_does_not_fit_is_refused() -> None:
    inputs = {"QUERY_EMBEDDINGS": np.ones((1, 4, 8), np.float32), "QUERY_MASK": np.ones((1, 3), np.int64)}
    with pytest.raises(RequestError, match=r"input QUERY_MASK has shape \[1, 3\]; expected \[1, 4\], one number per"):
        SearchRequest.parse(Request(inputs, {"collection": "c"}))


def test_texts_to_encode_and_to_rerank() -> None:
    queries = EncodeRequest.parse_queries(Request({"QUERY_TO_ENCODE": strings("one")}, sender=SENDER))
    assert queries == EncodeRequest(SENDER, ["one"], as_queries=True, input_name="QUERY")
    documents = EncodeRequest.parse_documents(Request({"DOCUMENT": strings("one")}, sender=SENDER))
    assert documents == EncodeRequest(SENDER, ["one"], as_queries=False, input_name="DOCUMENT")
    inputs = {"QUERY_TO_RERANK": strings("one"), "DOCUMENTS": strings("two", "three").reshape(1, -1)}
    assert RerankRequest.parse(Request(inputs, sender=SENDER)) == RerankRequest(SENDER, "one", ["two", "three"])


@pytest.mark.parametrize("operation", IngestOperation)
def test_every_operation_of_ingest_has_a_parser(operation: IngestOperation) -> None:
    documents = {"ID": strings("a"), "TEXT": strings("one"), "METADATA": strings("{}")}
    takes_documents = operation in (IngestOperation.UPSERT, IngestOperation.DELETE, IngestOperation.UPDATE_METADATA)
    inputs = documents if takes_documents else {"ID": NO_IDS}
    others = {"alias": "live", "fields": '{"n": "int"}'}
    request = Request(inputs, {"operation": operation.value, "collection": "c", **others}, SENDER)
    assert parse_ingest_request(request).sender is SENDER


@pytest.mark.parametrize("operation", CatalogOperation)
def test_every_operation_of_the_catalog_has_a_parser(operation: CatalogOperation) -> None:
    parse_catalog_request(Request({"IDS": NO_IDS}, {"operation": operation.value, "collection": "c", "field": "n"}))


def test_writes() -> None:
    request = upsert("c", {"a": "one", "b": "two"}, codec="int8")
    parsed = parse_ingest_request(request)
    assert parsed == UpsertRequest(
        request.sender, "c", [Document("a", "one", {}), Document("b", "two", {})], IfExists.OVERWRITE, Codec.INT8
    )
    assert parse_ingest_request(upsert("c", {"a": "one"}, if_exists="skip")).if_exists is IfExists.SKIP
    request = delete("c", "a", "b")
    assert parse_ingest_request(request) == DeleteRequest(request.sender, "c", ["a", "b"])

    def manage(operation: str, **parameters: Any) -> Any:
        return parse_ingest_request(Request({"ID": NO_IDS}, {"operation": operation, **parameters}, SENDER))

    assert manage("delete", collection="c", filters='{"field": "n"}') == DeleteMatchingRequest(
        SENDER, "c", {"field": "n"}
    )
    assert manage("set_alias", collection="c", alias="live") == SetAliasRequest(SENDER, alias="live", collection="c")
    assert manage("create", collection="c", fields='{"n": "int"}', pooling_factor=2) == CreateRequest(
        SENDER, "c", Codec.FLOAT16, {"n": FieldType.INT}, None, LongDocuments.WINDOWS, pooling_factor=2
    )


def test_reads() -> None:
    def parse(operation: str, *ids: str, **parameters: Any) -> Any:
        inputs = {"IDS": strings(*ids).reshape(1, -1)}
        return parse_catalog_request(Request(inputs, {"operation": operation, "collection": "c", **parameters}))

    assert parse("get", "a", "b") == GetRequest("c", ["a", "b"], with_embeddings=False)
    assert parse("count", filters="[1]") == CountRequest("c", [1])
    assert parse("scroll", "a", page=3) == ScrollRequest("c", after="a", page=3, filters=None)
    assert parse("facet", field="n", limit=3) == FacetRequest("c", "n", None, 3)
    assert parse("min_max", field="n", filters="[1]") == MinMaxRequest("c", "n", [1])
    with pytest.raises(RequestError, match="parameter field is None; expected a string"):
        parse("facet")
    assert parse("scroll") == ScrollRequest("c", after=None, page=64, filters=None)
    with pytest.raises(RequestError, match="parameter operation is 'wipe'; expected one of: get, count") as refused:
        parse("wipe")
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT
