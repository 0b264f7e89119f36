"""A collection whose files are damaged: it is named, and the server serves the others."""

from __future__ import annotations

import json
import shutil

import numpy as np
from service_requests import answers, strings, upsert

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Store
from tridex.serving.catalog import CatalogService
from tridex.serving.ingest import IngestService
from tridex.serving.search import SearchService
from tridex.serving.service import Context, ErrorCode, Request, RequestError


def test_a_damaged_collection_does_not_keep_the_others_from_being_served(context: Context) -> None:
    ingest = IngestService(context)
    ingest.answer([upsert(name, {"a": "some text"}) for name in ("damaged", "headless", "sound")])
    store = Store(context.store)
    shutil.rmtree(store.locate("damaged").folder / "data")
    for manifest in (store.locate("headless").folder / "_versions").iterdir():
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
    refused, written = ingest.answer([upsert("headless", {"b": "text"}), upsert("sound", {"b": "text"})])
    assert isinstance(refused, RequestError) and refused.code is ErrorCode.INTERNAL
    assert not isinstance(written, RequestError)
