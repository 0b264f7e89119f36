"""The memory budget of a server: an upsert that would outgrow it is refused before it is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from queries import embed_query
from removed_files import create_indexed, search_and_rewrite
from service_requests import answers, delete, upsert

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Size, Store
from tridex.index.storage.lance_session import keeps_removed_files
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError
from tridex.serving.collections.admission import Admission
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService


def texts(first: int, count: int) -> dict[str, str]:
    return {str(i): f"document {i} of some words about rivers and sugar" for i in range(first, first + count)}


def test_an_upsert_that_would_outgrow_the_budget_is_not_stored(context: Context) -> None:
    context = replace(context, memory_budget=60_000)
    ingest = IngestService(context)
    other, written = answers(ingest, [upsert("other", texts(0, 4)), upsert("c", texts(0, 8))])
    assert not isinstance(other, RequestError) and not isinstance(written, RequestError)
    refused = None
    count = 8
    while not isinstance(refused, RequestError):
        assert count < 500
        (refused,) = answers(ingest, [upsert("c", texts(count, 8))])
        count += 8
    assert refused.code is ErrorCode.RESOURCE_EXHAUSTED
    assert "collection 'c' needs" in str(refused) and "of the budget of 60.00 kB" in str(refused)
    stored = Store(context.store).open("c")
    assert stored.count() == count - 8
    # What is stored is what is served; rows that are replaced need no room, and deletes make some.
    service = SearchService(context)
    try:
        artifact = load_artifact(latest_version_dir(context.repository / "encoder"))
        query = embed_query(artifact, "sugar")
        (found,) = answers(service, [Request({"QUERY_EMBEDDINGS": query[None]}, {"collection": "c", "top_k": 1000})])
        assert not isinstance(found, RequestError) and found["IDS"].shape == (1, count - 8)
    finally:
        service.close()
    gone, again = answers(ingest, [delete("c", *map(str, range(8))), upsert("c", texts(count, 8))])
    assert not isinstance(gone, RequestError) and not isinstance(again, RequestError)


def test_what_is_counted_keeps_no_removed_files_open(tmp_path: Path) -> None:
    store = Store(tmp_path)
    create_indexed(store, "c")
    admission = Admission(store, 10**9)
    collection = store.open("c")
    admission.check(collection, Size())
    admission.wrote(collection, Size(1, 1, 1))
    del collection
    search_and_rewrite(store, "c")
    store.close_removed_files()
    assert not keeps_removed_files(store.folder)
