"""Files that are damaged, or cannot be read just now, or only read: it is told, and everything else goes on."""

from __future__ import annotations

import json
import shutil

import lance
import numpy as np
import pyarrow as pa
import pytest
from full_disk import no_file_above
from service_requests import answers, strings, upsert

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Store
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError
from tridex.serving.models.catalog import CatalogService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService


def test_a_damaged_collection_does_not_keep_the_others_from_being_served(context: Context) -> None:
    ingest = IngestService(context)
    answers(ingest, [upsert(name, {"a": "some text"}) for name in ("damaged", "headless", "sound")])
    store = Store(context.store)
    shutil.rmtree(store.resolve("damaged").folder / "data")
    for manifest in (store.resolve("headless").folder / "_versions").iterdir():
        manifest.write_bytes(b"")
    service = SearchService(context)
    try:
        dim = load_artifact(latest_version_dir(context.repository / "encoder")).manifest.dim
        query = {"QUERY_EMBEDDINGS": np.ones((1, 3, dim), np.float32)}
        damaged, headless, sound = answers(
            service, [Request(query, {"collection": name}) for name in ("damaged", "headless", "sound")]
        )
        assert not isinstance(sound, RequestError) and sound["IDS"].tolist() == [[b"a"]]
        for name, result in (("damaged", damaged), ("headless", headless)):
            assert isinstance(result, RequestError) and result.code is ErrorCode.INTERNAL
            assert f"collection {name!r} cannot be read" in str(result)
    finally:
        service.close()
    inputs = {"IDS": strings().reshape(1, 0)}
    (listed,) = CatalogService(context).answer([Request(inputs, {"operation": "collections"})])
    assert not isinstance(listed, RequestError)
    rows = {row["name"]: row for row in map(json.loads, listed["ROWS"][0])}
    assert rows["sound"]["count"] == 1 and "'headless' cannot be read" in rows["headless"]["damage"]
    refused, written = answers(ingest, [upsert("headless", {"b": "text"}), upsert("sound", {"b": "text"})])
    assert isinstance(refused, RequestError) and refused.code is ErrorCode.INTERNAL
    assert not isinstance(written, RequestError)


def test_a_newer_format_and_a_full_disk_are_told_and_the_rest_goes_on(context: Context) -> None:
    ingest = IngestService(context)
    answers(ingest, [upsert(name, {"a": "some text"}) for name in ("newer", "sound")])
    store = Store(context.store)
    schema = pa.schema([("id", pa.string())], metadata={b"tridex": json.dumps({"format": 1000}).encode()})
    lance.write_dataset(schema.empty_table(), str(store.resolve("newer").folder), mode="overwrite")
    with no_file_above(30_000):
        newer, large, small = answers(
            ingest,
            [
                upsert("newer", {"b": "text"}),
                upsert("sound", {"a": "another text", "large": np.random.default_rng(0).bytes(60_000).hex()}),
                upsert("sound", {"small": "text"}),
            ],
        )
    assert isinstance(newer, RequestError) and "'newer' has store format 1000 of a newer Tridex" in str(newer)
    # Both were one transaction, which had no room.
    for full in (large, small):
        assert isinstance(full, RequestError) and full.code is ErrorCode.RESOURCE_EXHAUSTED
        assert "collection 'sound': no room for this write" in str(full)
    assert [document and document.text for document in store.open("sound").get(["a", "large"])] == ["some text", None]
    (again,) = answers(ingest, [upsert("sound", {"small": "text"})])
    assert not isinstance(again, RequestError) and store.open("sound").count() == 2


def test_a_second_server_serves_reads_and_says_who_writes(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    first, second = IngestService(context), IngestService(context)
    assert "another server writes to the store" in caplog.text
    (written,) = answers(first, [upsert("c", {"a": "some text"})])
    assert not isinstance(written, RequestError)
    for request in (
        upsert("c", {"b": "text"}),
        Request({"ID": strings().reshape(1, 0)}, {"operation": "drop", "collection": "c"}),
        Request({"ID": strings().reshape(1, 0)}, {"operation": "set_alias", "collection": "c", "alias": "live"}),
    ):
        (refused,) = answers(second, [request])
        assert isinstance(refused, RequestError) and refused.code is ErrorCode.READ_ONLY
        assert "another server writes to the store" in str(refused) and "since" in str(refused)
    first.close()
    (taken_over,) = answers(second, [upsert("c", {"b": "text"})])
    assert not isinstance(taken_over, RequestError) and Store(context.store).open("c").count() == 2
    (refused,) = answers(first, [upsert("c", {"c": "text"})])
    assert isinstance(refused, RequestError) and refused.code is ErrorCode.READ_ONLY
    second.close()
