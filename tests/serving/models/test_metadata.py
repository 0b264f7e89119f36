"""Metadata that cannot be given back is refused when it comes; what is stored already costs no page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from service_requests import answers, strings

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Store
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError
from tridex.serving.models.catalog import CatalogService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService

DEEP = '{"a":' * 500 + "1" + "}" * 500


def upsert(**metadata: str) -> Request:
    inputs = {"ID": strings(*metadata), "TEXT": strings(*metadata), "METADATA": strings(*metadata.values())}
    return Request(inputs, {"collection": "c", "operation": "upsert"})


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        (DEEP, "in at most 128 levels"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "maximum recursion depth"),
        ('{"n": 1e999}', "Out of range float"),
        (f'{{"n": {"9" * 5000}}}', "4300 digits"),
        ("[1]", "it is none"),
    ],
)
def test_what_could_not_be_given_back_is_refused_alone(context: Context, metadata: str, why: str) -> None:
    ingest = IngestService(context)
    try:
        refused, written = answers(ingest, [upsert(bad=metadata, also="{}"), upsert(good='{"n": 1}')])
        assert isinstance(refused, RequestError) and refused.code is ErrorCode.INVALID_ARGUMENT
        assert "expected a JSON object" in str(refused) and why in str(refused) and len(str(refused)) < 500
        assert not isinstance(written, RequestError)
        assert [d.id for d in Store(context.store).open("c").scroll(9)] == ["good"]
    finally:
        ingest.close()


def test_what_an_earlier_version_stored_costs_no_page(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"deep": DEEP, "good": '{"n": 1}', "inf": '{"n": Infinity}'}
    ingest = IngestService(context)
    with monkeypatch.context() as patched:
        patched.setattr("tridex.index.storage.document_rows.encoded", lambda key, _: stored[key])
        (written,) = answers(ingest, [upsert(**dict.fromkeys(stored, "{}"))])
    assert not isinstance(written, RequestError)
    ingest.close()
    scroll, get = CatalogService(context).answer(
        [
            Request({"IDS": strings().reshape(1, 0)}, {"operation": "scroll", "collection": "c"}),
            Request({"IDS": strings(*stored).T}, {"operation": "get", "collection": "c"}),
        ]
    )
    search = SearchService(context)
    try:
        dim = load_artifact(latest_version_dir(context.repository / "encoder")).manifest.dim
        (found,) = answers(
            search, [Request({"QUERY_EMBEDDINGS": np.ones((1, 3, dim), np.float32)}, {"collection": "c"})]
        )
    finally:
        search.close()
    assert not isinstance(scroll, RequestError) and not isinstance(get, RequestError)
    assert not isinstance(found, RequestError)
    pages = [{row["id"]: row["metadata"] for row in map(json.loads, page["ROWS"][0])} for page in (scroll, get)]
    hits = {key.decode(): json.loads(raw) for key, raw in zip(found["IDS"][0], found["METADATA"][0], strict=True)}
    for metadata in (*pages, hits):
        assert metadata.pop("good") == {"n": 1}
        assert [list(value) for value in metadata.values()] == [["_unreadable"]] * 2
