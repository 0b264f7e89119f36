"""A search that must see what the device has not yet: it waits by itself, and ends with an answer or a typed error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
from eventually import eventually
from service_requests import answers

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Collection, CollectionSpec, Document, Follower, Store
from tridex.kernels import Codec
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError, Sender
from tridex.serving.engine.pending_searches import PendingSearches
from tridex.serving.models.search import SearchService


@pytest.fixture
def collection(context: Context) -> Collection:
    manifest = load_artifact(latest_version_dir(context.repository / "encoder")).manifest
    return Store(context.store).create("c", CollectionSpec(manifest.dim, Codec.FLOAT32, manifest.fingerprint))


@pytest.fixture
def service(context: Context, collection: Collection) -> Iterator[SearchService]:
    put(collection, "first")
    service = SearchService(context)
    yield service
    service.close()


def put(collection: Collection, *keys: str) -> int:
    one = np.ones((2, collection.spec.dim), np.float32)
    return collection.upsert([Document(key, key, {}) for key in keys], [one] * len(keys))


def search(collection: Collection, timeout_s: float | None = None, **parameters: int) -> Request:
    query = np.ones((1, 3, collection.spec.dim), np.float32)
    return Request({"QUERY_EMBEDDINGS": query}, {"collection": "c", **parameters}, Sender(timeout_s))


@pytest.fixture
def slow_refresh(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Snapshots move on when the event is set, and not before."""
    go_on = threading.Event()
    refresh = Follower.refresh
    monkeypatch.setattr(Follower, "refresh", lambda self: refresh(self) if go_on.is_set() else self.snapshot)
    return go_on


def test_a_search_that_waits_holds_up_nobody(
    service: SearchService, collection: Collection, slow_refresh: threading.Event
) -> None:
    version = put(collection, "second")
    (late,) = service.answer([search(collection, min_version=version)])
    assert isinstance(late, Future)
    now, early = answers(service, [search(collection), search(collection, min_version=version + 1)])
    assert not late.done()
    assert not isinstance(now, RequestError) and now["IDS"].tolist() == [[b"first"]]
    assert isinstance(early, RequestError) and early.code is ErrorCode.INVALID_ARGUMENT
    (still,) = answers(service, [search(collection)])
    assert not isinstance(still, RequestError) and still["VERSION"][0, 0] < version
    slow_refresh.set()
    found = late.result(timeout=10)
    assert not isinstance(found, RequestError)
    assert found["IDS"].tolist() == [[b"first", b"second"]] and found["VERSION"].tolist() == [[version]]


def test_what_cannot_say_whether_it_is_cancelled_is_answered() -> None:
    def fails() -> bool:
        raise RuntimeError("a closed file")

    pending: PendingSearches[Request] = PendingSearches(threading.Condition(), lambda _: [])
    try:
        end = pending.add(Request({}, sender=Sender(is_cancelled=fails))).result(10)
        assert isinstance(end, RequestError) and end.code is ErrorCode.INTERNAL
    finally:
        pending.close()


def test_a_wait_ends_within_the_requests_time(
    service: SearchService, collection: Collection, slow_refresh: threading.Event
) -> None:
    del slow_refresh
    version = put(collection, "second")
    before = time.monotonic()
    (refused,) = answers(service, [search(collection, timeout_s=0.5, last_write=version)])
    assert isinstance(refused, RequestError) and refused.code is ErrorCode.UNAVAILABLE
    assert f"searched at version {version - 1}, this search must see {version}" in str(refused)
    assert time.monotonic() - before > 0.4


def test_a_search_that_waits_is_forgotten_when_its_caller_hangs_up(
    service: SearchService, collection: Collection, slow_refresh: threading.Event
) -> None:
    left = threading.Event()
    request = search(collection, min_version=put(collection, "second"))
    (late,) = service.answer([replace(request, sender=Sender(is_cancelled=left.is_set))])
    eventually(lambda: len(service._engine._pending) == 1)
    left.set()
    assert isinstance(late, Future)
    end = late.result(30)
    assert isinstance(end, RequestError) and end.code is ErrorCode.DEADLINE_EXCEEDED
    assert not slow_refresh.is_set()


def test_a_new_collection_is_loaded_beside_the_searches(context: Context) -> None:
    service = SearchService(context)
    try:
        manifest = load_artifact(latest_version_dir(context.repository / "encoder")).manifest
        spec = CollectionSpec(manifest.dim, Codec.FLOAT32, manifest.fingerprint)
        collection = Store(context.store).create("c", spec)
        (found,) = answers(service, [search(collection, min_version=put(collection, "first"))])
        assert not isinstance(found, RequestError) and found["IDS"].tolist() == [[b"first"]]
        Store(context.store).drop("c")
        (gone,) = answers(service, [search(collection)])
        assert isinstance(gone, RequestError) and gone.code is ErrorCode.NOT_FOUND
    finally:
        service.close()


def test_what_waits_when_the_server_stops_is_told(
    service: SearchService, collection: Collection, slow_refresh: threading.Event
) -> None:
    del slow_refresh
    (late,) = service.answer([search(collection, min_version=put(collection, "second"))])
    assert isinstance(late, Future)
    service.close()
    stopped = late.result(timeout=10)
    assert isinstance(stopped, RequestError) and stopped.code is ErrorCode.UNAVAILABLE
