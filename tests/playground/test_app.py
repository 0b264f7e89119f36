"""The playground over HTTP, with a stand-in for the client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from tridex.client import (
    AsyncClient,
    CollectionInfo,
    Document,
    Explanation,
    FacetValue,
    Hit,
    InvalidArgument,
    QueryToken,
    RerankResult,
    SearchResult,
    Span,
    Unavailable,
)
from tridex.playground.app import Playground, create_app
from tridex.playground.codec_costs import CODECS, CodecCost, CodecCosts
from tridex.playground.local_ranking import LocalRanking
from tridex.playground.snippets import snippets
from tridex.serving.metrics.stages import SEARCH_STAGES, StageTotal

SCRIPT = "<script>alert('found')</script> and a word"
TEXTS = {"a": SCRIPT, "b": "another text", "c": "a third"}
CONDITION = {"field": "year", "operator": ">=", "value": 1990}


class StandIn:
    """Answers as a server with three documents does, and remembers what it was asked."""

    def __init__(self) -> None:
        self.filters: list[Any] = []
        self.error: Exception | None = None

    async def __aenter__(self) -> StandIn:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def search(
        self, _: str, query: str, *, top_k: int = 10, filters: Any = None, explain: bool = False, mode: str = "maxsim"
    ) -> SearchResult:
        if self.error is not None:
            raise self.error
        self.filters.append(filters)
        keys = ["a", "b"] if mode == "maxsim" else ["b"]
        hits = [Hit(key, 2.0, TEXTS[key], {"year": 1995}, explained(query) if explain else None) for key in keys]
        return SearchResult(tuple(hits[:top_k]), 1)

    async def rerank(self, _: str, *, ids: list[str], **__: Any) -> list[RerankResult]:
        return [RerankResult(i, 1.0, key) for i, key in enumerate(ids) if key != "c"]

    async def get(self, _: str, ids: list[str]) -> list[Document | None]:
        return [Document(key, TEXTS[key]) for key in ids]

    async def explain(self, _: str, query: str, ids: list[str]) -> list[Hit | None]:
        return [Hit(key, 2.0, TEXTS[key], {}, explained(query)) if key in TEXTS else None for key in ids]

    async def describe_collection(self, name: str) -> CollectionInfo:
        fields = {"year": "int", "kind": "str", "note": "str", "same": "str", "tags": "list[str]"}
        return CollectionInfo(name, 3, tokens=12, dim=128, fields=fields)

    async def min_max(self, _: str, __: str) -> tuple[int, int] | None:
        return (1979, 1995)

    async def facet(self, _: str, field: str, *, limit: int) -> list[FacetValue]:
        held: Mapping[str, list[tuple[str, int]]] = {
            "kind": [("film", 2), ("play", 1)],
            "note": [(str(i), 0) for i in range(limit)],  # nearly each document its own
            "same": [("x", 3)],
            "tags": [("t", 1)],
        }
        return [FacetValue(*pair) for pair in held[field]]


def explained(query: str) -> Explanation:
    start = SCRIPT.index("word")
    token = QueryToken("word", 0, len(query), 0.9, 0.9, None)
    return Explanation(0.9, (token,), (Span(start, start + 4, 1.0, "word", (0,)),), 0.1, True, (0, len(SCRIPT)))


class Ranked:
    def search(self, _: str, top_k: int) -> dict[str, float]:
        return dict(list({"c": 0.9, "a": 0.5, "b": 0.1}.items())[:top_k])


def spent() -> dict[str, StageTotal]:
    spent.calls += 1  # type: ignore[attr-defined]
    return {stage: StageTotal(0.001 * spent.calls, spent.calls, spent.calls) for stage in SEARCH_STAGES}  # type: ignore[attr-defined]


spent.calls = 0  # type: ignore[attr-defined]


@pytest.fixture
def server() -> StandIn:
    return StandIn()


@pytest.fixture
def playground(server: StandIn) -> Playground:
    local = LocalRanking(lambda advance: advance(3) or Ranked(), 3)
    local.start()
    local.close()
    costs = CodecCosts(lambda queries: (CodecCost(codec, 10, len(queries), 1.0) for codec in CODECS))
    return Playground(
        cast(AsyncClient, server), "127.0.0.1:8001", "films", "films.csv", "ids from no", local, costs, spent, ["One?"]
    )


@pytest.fixture
def page(playground: Playground) -> Iterator[TestClient]:
    with TestClient(create_app(playground), base_url="http://127.0.0.1:5000", raise_server_exceptions=False) as client:
        yield client


def test_the_page_runs_its_own_scripts_alone(page: TestClient) -> None:
    answer = page.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy and "unsafe" not in policy
    assert "<script>" not in answer.text and "style=" not in answer.text and " on" + "click" not in answer.text
    for name in ("page.js", "style.css", "elements.js", "filters.js", "rankings.js", "costs.js", "snippets.js"):
        text = page.get(f"/page/{name}").text
        assert text and "innerHTML" not in text and "http:" not in text and "https:" not in text
    assert page.get("/page/../app.py").status_code == 404


def test_about_has_the_fields_that_tell_documents_apart(page: TestClient) -> None:
    about = page.get("/api/about").json()
    controls = {control["field"]: control for control in about["controls"]}
    assert (
        about["count"] == 3 and about["bi_encoder"]["state"] == "ready" and list(controls) == ["year", "kind", "tags"]
    )
    assert controls["year"]["range"] == [1979, 1995]
    assert controls["kind"]["values"] == [{"value": "film", "count": 2}, {"value": "play", "count": 1}]


def test_three_systems_answer_side_by_side(page: TestClient) -> None:
    answer = page.post("/api/search", json={"query": "word"}).json()
    colbert, bi_encoder, bm25 = answer["rankings"]
    assert [hit["id"] for hit in colbert["hits"]] == ["a", "b"]
    assert [hit["id"] for hit in bi_encoder["hits"]] == ["c", "a", "b"]
    assert colbert["hits"][1]["ranks"] == {"bi-encoder": 3, "bm25": 1} and bm25["hits"][0]["ranks"]["colbert"] == 2
    assert bi_encoder["hits"][0]["ranks"] == {"colbert": None, "bm25": None}
    marked = [piece for piece in colbert["hits"][0]["pieces"] if piece["weight"] > 0]
    assert [piece["text"] for piece in marked] == ["word"]
    assert colbert["hits"][0]["words"] == [{"text": "word", "contribution": 0.9, "found": "word"}]
    assert "".join(piece["text"] for piece in colbert["hits"][0]["pieces"]) == SCRIPT


def test_filters_hold_for_every_system(page: TestClient, server: StandIn) -> None:
    answer = page.post("/api/search", json={"query": "word", "conditions": [CONDITION]}).json()
    assert server.filters == [{"operator": "AND", "conditions": [CONDITION]}] * 2
    assert [hit["id"] for hit in answer["rankings"][1]["hits"]] == ["a", "b"]
    assert "'value': 1990" in answer["snippets"][0]["code"]


def test_times_are_by_stage(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tridex.playground.app.SETTLING_S", 0)
    stages = page.post("/api/timing", json={"query": "word"}).json()
    assert list(stages) == ["colbert", "bm25"]
    assert stages["colbert"]["encode"] == pytest.approx(1) and stages["bm25"]["client and network"] >= 0


def test_codecs_are_measured_once_asked_for(page: TestClient, playground: Playground) -> None:
    assert page.get("/api/codecs").json()["state"] == "idle"
    page.post("/api/search", json={"query": "word"})
    assert page.post("/api/codecs", json={}).json()["queries"] == 2
    playground.costs.close()
    costs = page.get("/api/codecs").json()["costs"]
    assert costs and {cost["bytes_per_document"] for cost in costs} == {2}


def test_an_explanation_is_a_page_that_runs_nothing(page: TestClient) -> None:
    answer = page.get("/explain", params={"query": "word", "id": "a"})
    assert "default-src 'none'; style-src 'unsafe-inline'" in answer.headers["content-security-policy"]
    assert "<script>" not in answer.text and "&lt;script&gt;" in answer.text
    assert page.get("/explain", params={"query": "word", "id": "gone"}).status_code == 404


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"json": []}, "expected a JSON object"),
        ({"content": "{"}, "expected a JSON object"),
        ({"json": {"query": 7}}, "query: expected text, got 7"),
        ({"json": {"query": "x", "conditions": [{"field": "year"}]}}, "conditions: expected a list of objects"),
    ],
)
def test_what_is_no_question_is_refused(page: TestClient, sent: dict[str, Any], message: str) -> None:
    answer = page.post("/api/search", **sent)
    assert answer.status_code == 400 and message in answer.json()["error"]


def test_other_sites_cannot_ask(page: TestClient) -> None:
    """A form of another site cannot send JSON, and a name of its own that leads here is no Host of this page."""
    assert page.post("/api/search", data={"query": "word"}).status_code == 400
    assert page.get("/api/about", headers={"Host": "elsewhere.example"}).status_code == 400


def test_errors_of_the_server_are_sentences(page: TestClient, server: StandIn) -> None:
    for error, status in ((Unavailable("the server is gone"), 503), (InvalidArgument("filters: unknown field"), 400)):
        server.error = error
        answer = page.post("/api/search", json={"query": "word"})
        assert (answer.status_code, answer.json()) == (status, {"error": str(error)})


def test_a_bi_encoder_that_is_missing_says_why() -> None:
    def load(_: object) -> Ranked:
        raise ImportError("no module named sentence_transformers")

    local = LocalRanking(load, 3)
    assert local.status.state == "reading" and local.rank("word", 1) is None
    local.start()
    local.close()
    assert (local.status.state, local.status.reason) == ("absent", "no module named sentence_transformers")


def test_programs_quote_what_was_asked() -> None:
    query = "a \"quoted\" 'word'\n</script>"
    conditions = [{"field": "tags", "operator": "contains_any", "value": ["it's"]}, CONDITION]
    for program in snippets("127.0.0.1:8001", "films", query, conditions):
        names: dict[str, Any] = {}
        assignments = [line for line in program.code.splitlines() if line.startswith("query = ")]
        exec("\n".join(assignments), names)
        assert names["query"] == query
        compile(program.code, program.name, "exec")
