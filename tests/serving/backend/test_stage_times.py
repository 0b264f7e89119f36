"""Where the time of requests goes: a request's stages together are its time in the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from counts import Counts
from service_requests import answers, strings, upsert

from tridex.serving.backend.scheduler import Task
from tridex.serving.backend.service import Arrays, Context, Request, RequestError, Sender
from tridex.serving.backend.stage_times import STAGES, StageTimes
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService


@pytest.fixture
def search(context: Context) -> Iterator[SearchService]:
    ingest = IngestService(context)
    (written,) = answers(ingest, [upsert("c", {"a": "red planet", "b": "blue moon"})])
    assert not isinstance(written, RequestError)
    ingest.close()
    service = SearchService(context)
    yield service
    service.close()


def request(text: str, **parameters: Any) -> Request:
    return Request({"QUERY": strings(text)}, {"collection": "c", **parameters})


def counted(context: Context, quantity: str, lane: str = "search") -> dict[str, float]:
    """Each stage's amount, where something was counted."""
    assert isinstance(context.metrics, Counts)
    amounts = context.metrics.amounts
    keys = {
        stage: (f"tridex_search_stage_{quantity}_total", frozenset({("lane", lane), ("stage", stage)}))
        for stage in STAGES
    }
    return {stage: amounts[key] for stage, key in keys.items() if amounts.get(key)}


def test_the_stages_of_a_search_are_all_of_its_time(search: SearchService, context: Context) -> None:
    asked = request("which planet is red?")
    answered_at: list[float] = []
    (result,) = search.answer([asked])
    assert isinstance(result, Future)
    result.add_done_callback(lambda _: answered_at.append(time.monotonic()))
    assert not isinstance(result.result(30), RequestError)
    search.close()
    seconds = counted(context, "seconds")
    assert (
        answered_at[0] - asked.sender.arrived_at <= sum(seconds.values()) <= time.monotonic() - asked.sender.arrived_at
    )
    assert all(amount > 0 for amount in seconds.values())
    assert counted(context, "requests") == dict.fromkeys(STAGES, 1)
    assert counted(context, "batches") == dict.fromkeys(STAGES[1:], 1)


def test_what_is_done_together_is_one_batch(search: SearchService, context: Context) -> None:
    results: list[Arrays | RequestError] = answers(search, [request(f"query {i}") for i in range(20)])
    assert not any(isinstance(result, RequestError) for result in results)
    search.close()
    assert counted(context, "requests") == dict.fromkeys(STAGES, 20)
    batches = counted(context, "batches")
    # The first may have begun before the last came.
    assert batches == pytest.approx(dict.fromkeys(STAGES[1:], round(batches["score"]))) and batches["score"] < 20


def test_bm25_encodes_nothing_and_encodings_are_counted_apart(search: SearchService, context: Context) -> None:
    long = {"DOCUMENT": strings(*(f"{i} " + 300 * "word " for i in range(64)))}
    embedded, _ = answers(search, [Request(long), request("planet", mode="bm25")])
    assert not isinstance(embedded, RequestError)
    search.close()
    assert counted(context, "requests") == {"wait": 1, "score": 1, "answer": 1}
    assert counted(context, "requests", "encode") == dict.fromkeys(STAGES, 1)
    batches = counted(context, "batches", "encode")
    assert batches["encode"] == batches["tokenise"] > 1 == batches["score"]


def test_nobody_who_is_refused_is_counted(search: SearchService, context: Context) -> None:
    cancelled = Request({"QUERY": strings("moon")}, {"collection": "c"}, Sender(is_cancelled=lambda: True))
    results = answers(search, [request(""), cancelled])
    assert all(isinstance(result, RequestError) for result in results)
    search.close()
    assert counted(context, "requests") == {}


def test_who_joins_a_unit_late_waited_no_negative_time(context: Context) -> None:
    """Triton server's process for a model crashes where a counter is given less than 0."""
    late = Task(request("planet"), iter(()), units=1.0, tokenising_s=60.0, encoding_s=1.0)
    stage_times = StageTimes(context.metrics)
    now = time.monotonic()
    stage_times.add("search", [late], now, now)
    stage_times.close()
    assert counted(context, "requests")["wait"] == 1
    assert "wait" not in counted(context, "seconds")
