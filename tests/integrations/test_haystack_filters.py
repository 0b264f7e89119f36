"""Filters that the server refuses are Haystack's errors; what refuses them here is the server's own translation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from haystack.errors import FilterError

from haystack_integrations.components.retrievers.tridex import TridexRetriever
from haystack_integrations.document_stores.tridex import TridexDocumentStore
from tridex.client import AsyncClient, Client, InvalidArgument
from tridex.index import CollectionSpec, FieldType, InvalidFilterError
from tridex.index.storage.filters import to_sql
from tridex.kernels import Codec

SPEC = CollectionSpec(4, Codec.FLOAT32, "f" * 64, fields={"year": FieldType.INT})


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TridexDocumentStore:
    """Over clients that send nothing; of what they are asked, the filters are read as a server reads them."""

    def answered(filters: Any) -> int:
        try:
            to_sql(filters, SPEC) if filters else None
        except InvalidFilterError as error:
            raise InvalidArgument(str(error)) from error
        return 1

    async def awaited(*_: Any, filters: Any = None, **__: Any) -> int:
        return answered(filters)

    for method in ("count", "scroll", "search", "delete", "update_metadata"):
        monkeypatch.setattr(Client, method, lambda *_, filters=None, **__: answered(filters))
        monkeypatch.setattr(AsyncClient, method, awaited)
    return TridexDocumentStore("docs", address="localhost:1")


@pytest.mark.parametrize(
    ("operator", "named"),
    [("LIKE", "filters.operator is 'LIKE'; expected one of: =="), ("starts_with", "'starts_with' on field 'year'")],
)
def test_an_operator_that_is_not_known_is_haystacks_error(
    store: TridexDocumentStore, operator: str, named: str
) -> None:
    given: dict[str, Any] = {"field": "meta.year", "operator": operator, "value": 2020}
    retriever = TridexRetriever(store)
    for call in (
        lambda: store.filter_documents(given),
        lambda: store.count_documents_by_filter(given),
        lambda: store.delete_by_filter(given),
        lambda: store.update_by_filter(given, {"year": 1}),
        lambda: retriever.run(query="late", filters=given),
        lambda: asyncio.run(store.filter_documents_async(given)),
        lambda: asyncio.run(store.count_documents_by_filter_async(given)),
        lambda: asyncio.run(store.delete_by_filter_async(given)),
        lambda: asyncio.run(store.update_by_filter_async(given, {"year": 1})),
        lambda: asyncio.run(retriever.run_async(query="late", filters=given)),
    ):
        with pytest.raises(FilterError, match=named) as caught:
            call()
        assert isinstance(caught.value, InvalidArgument)
