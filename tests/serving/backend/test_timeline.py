"""Where the time of requests goes: the stages of a request together are its time in the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_requests import answers, strings, upsert

from tridex.serving.backend.recorder import Recorder
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError, Sender
from tridex.serving.backend.timeline import Interval, Timeline
from tridex.serving.metrics.exposition import exposition
from tridex.serving.metrics.registry import Metrics
from tridex.serving.metrics.table import Stage
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


def stages(of: Request) -> set[Stage]:
    return {interval.stage for interval in of.sender.timeline.intervals}


MAXSIM = {Stage.TOKENISE, Stage.ENCODE, Stage.SCORE, Stage.FETCH}


def test_every_mode_says_what_it_spends_its_time_on(search: SearchService) -> None:
    asked = {
        "maxsim": request("which planet is red?"),
        "bm25": request("planet", mode="bm25"),
        "rerank": request("planet", mode="rerank"),
        "hybrid": request("planet", mode="hybrid"),
        "approximate_maxsim": request("planet", exact=False),
        "explained": request("planet", explain=1),
    }
    assert not any(isinstance(result, RequestError) for result in answers(search, list(asked.values())))
    assert stages(asked["maxsim"]) == stages(asked["approximate_maxsim"]) == MAXSIM
    assert stages(asked["bm25"]) == {Stage.BM25, Stage.FETCH}
    assert stages(asked["rerank"]) == stages(asked["hybrid"]) == MAXSIM | {Stage.BM25}
    assert stages(asked["explained"]) == MAXSIM | {Stage.EXPLAIN}
    labels = {name: (one.sender.timeline.operation, one.sender.timeline.mode) for name, one in asked.items()}
    assert labels == {name: ("search", name) for name in asked} | {"explained": ("search", "maxsim")}
    assert asked["maxsim"].sender.timeline.attributes == {"collection": "c", "top_k": 10}


def test_the_stages_of_a_search_are_all_of_its_time(search: SearchService) -> None:
    asked = request("which planet is red?")
    (result,) = search.answer([asked])
    assert isinstance(result, Future) and not isinstance(result.result(30), RequestError)
    ended = time.monotonic()
    spent = list(asked.sender.timeline.by_stage(ended))
    assert sum(one.seconds for one in spent) == pytest.approx(ended - asked.sender.arrived_at)
    assert all(one.seconds > 0 for one in spent)


def test_what_is_done_together_is_one_batch(search: SearchService) -> None:
    asked = [request(f"query {i}") for i in range(20)]
    assert not any(isinstance(result, RequestError) for result in answers(search, asked))
    for stage in MAXSIM:
        shares = [one.share for each in asked for one in each.sender.timeline.intervals if one.stage is stage]
        # The first may have begun before the last came.
        assert sum(shares) == pytest.approx(round(sum(shares))) and sum(shares) < 20


def test_texts_and_writes_have_stages_too(search: SearchService, context: Context) -> None:
    encoding = Request({"DOCUMENT": strings("red planet")})
    texts = strings("red planet", "blue moon").reshape(1, 2)
    reranking = Request({"QUERY_TO_RERANK": strings("planet"), "DOCUMENTS": texts})
    ingest = IngestService(context)
    writing = upsert("c", {"c": "green hill"})
    results = answers(search, [encoding, reranking]) + answers(ingest, [writing])
    ingest.close()
    assert not any(isinstance(result, RequestError) for result in results)
    assert stages(encoding) == {Stage.TOKENISE, Stage.ENCODE}
    assert stages(reranking) == {Stage.TOKENISE, Stage.ENCODE, Stage.SCORE}
    assert stages(writing) == {Stage.TOKENISE, Stage.ENCODE, Stage.WRITE}
    operations = [one.sender.timeline.operation for one in (encoding, reranking, writing)]
    assert operations == ["encode_document", "rerank_texts", "upsert"]


TIMES = st.integers(0, 1000).map(lambda ms: ms / 1000)


@given(st.lists(st.tuples(st.sampled_from([Stage.SCORE, Stage.BM25, Stage.FETCH]), TIMES, TIMES), max_size=8))
def test_waiting_is_what_no_stage_covers(intervals: list[tuple[Stage, float, float]]) -> None:
    timeline = Timeline(arrived_at=0.0)
    for stage, first, second in intervals:
        timeline.add(stage, min(first, second), max(first, second))
    covered = {
        ms
        for _, first, second in intervals
        for ms in range(round(1000 * min(first, second)), round(1000 * max(first, second)))
    }
    wait, *rest = timeline.by_stage(1.0)
    assert wait.stage is Stage.WAIT
    assert wait.seconds == pytest.approx(1 - len(covered) / 1000)
    assert sum(one.seconds for one in rest) == pytest.approx(sum(abs(a - b) for _, a, b in intervals))


def test_requests_are_counted_by_what_they_asked_for_and_how_it_ended() -> None:
    metrics = Metrics()
    recorder = Recorder(metrics, None)
    good, bad = Sender(), Sender()
    for sender in (good, bad):
        sender.timeline.is_about("search", "maxsim")
        sender.timeline.intervals.append(Interval(Stage.SCORE, sender.arrived_at, sender.arrived_at + 1, 0.25))
    recorder.answered(good, None)
    recorder.answered(bad, RequestError(ErrorCode.OVERLOADED, "too much"))
    recorder.answered(Sender(), RequestError(ErrorCode.INVALID_ARGUMENT, "no operation"))
    text = exposition([metrics.snapshot()]).decode()
    assert 'tridex_requests_total{code="OK",operation="search"} 1.0' in text
    assert 'tridex_requests_total{code="OVERLOADED",operation="search"} 1.0' in text
    assert 'tridex_requests_total{code="INVALID_ARGUMENT",operation="unknown"} 1.0' in text
    assert 'tridex_stage_duration_seconds_sum{mode="maxsim",stage="score"} 1.0' in text
    assert 'tridex_stage_batches_total{mode="maxsim",stage="score"} 0.25' in text
    assert text.count("tridex_request_duration_seconds_count{") == 1
