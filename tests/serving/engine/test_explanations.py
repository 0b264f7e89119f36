"""Explanations of hits: over the stored codes, at the right places of the text, and the same as brute force."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder
from service_requests import answers, strings, upsert

from tridex.building import document_reading, new_collection_spec
from tridex.encoding import TextToken, latest_version_dir, load_artifact
from tridex.index import Document, Store
from tridex.kernels import Codec
from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError
from tridex.serving.engine.spans import Excess, spans
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService

TEXTS = {
    "rmtree": "Remove a directory and everything in it: shutil.rmtree(path)! Late interaction.",
    "paris": "The capital of France is Paris, on the river Seine 123",
    "accents": "e\u0301te\u0301 cafe\u0301 Straße 日本 שלום 👍🏽 <script>alert(1)</script>",
    "long": " ".join(f"{word} {i}" for i in range(60) for word in ("river", "sugar", "row")),
}
QUERIES = ["remove a directory", "capital of France?", "cafe\u0301 with sugar", "row by row: <script>"]


@pytest.fixture
def ingest(context: Context) -> Iterator[IngestService]:
    service = IngestService(context)
    yield service
    service.close()


@pytest.fixture
def search(context: Context, ingest: IngestService) -> Iterator[SearchService]:
    for name, declared in {
        "cut": {"codec": "float32", "long_documents": "truncate"},
        "windows": {"codec": "float32", "document_length": 16},
        "pooled": {"codec": "float32", "pooling_factor": 2, "document_length": 16},
        "int8": {"codec": "int8"},
    }.items():
        created = Request({"ID": np.empty((1, 0), object)}, {"collection": name, "operation": "create", **declared})
        for request in (created, upsert(name, TEXTS)):
            (written,) = answers(ingest, [request])
            assert not isinstance(written, RequestError), written
    service = SearchService(context)
    yield service
    service.close()


def explained(search: SearchService, collection: str, query: str, **parameters: Any) -> dict[str, dict[str, Any]]:
    """Each document's explanation, which are checked for what is always true of one."""
    (answer,) = answers(
        search, [Request({"QUERY": strings(query)}, {"collection": collection, "explain": 10, **parameters})]
    )
    assert not isinstance(answer, RequestError), answer
    found = {}
    for key, score, text, raw in zip(
        *(answer[name][0] for name in ("IDS", "SCORES", "TEXTS", "EXPLANATIONS")), strict=True
    ):
        explanation = json.loads(raw)
        check(explanation, float(score), query, text.decode())
        found[key.decode()] = explanation
    assert found.keys() == TEXTS.keys()
    return found


def check(explanation: dict[str, Any], score: float, query: str, text: str) -> None:
    tokens = explanation["query_tokens"]
    assert sum(token["contribution"] for token in tokens) == pytest.approx(score, rel=1e-5, abs=1e-5)
    assert explanation["score"] == pytest.approx(score, rel=1e-5, abs=1e-5)
    assert 0 <= explanation["special_share"] <= 1
    first, last = explanation["read"]
    for token in tokens:
        check_place(token, query, 0, len(query))
        if token["match"]:
            check_place(token["match"], text, first, last)
            for member in token["match"].get("cluster", []):
                check_place(member, text, first, last)
    for span in explanation["spans"]:
        assert 0 <= span["start"] < span["end"] <= len(text) and span["score"] > 0
        assert span["text"] == text[span["start"] : span["end"]]


def check_place(token: dict[str, Any], text: str, first: int, last: int) -> None:
    if token["start"] is None:
        assert token["end"] is None
    else:
        assert 0 <= first <= token["start"] < token["end"] <= last <= len(text)


def test_an_explanation_is_brute_force_by_sentence_transformers(search: SearchService, checkpoint: Path) -> None:
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    documents = dict(zip(TEXTS, model.encode_document(list(TEXTS.values()), convert_to_numpy=True), strict=True))
    same = total = 0
    for query, tokens in zip(QUERIES, model.encode_query(QUERIES, convert_to_numpy=True), strict=True):
        for key, explanation in explained(search, "cut", query, explain_matrix=True).items():
            similarities = tokens @ documents[key].T
            scoring = [place for place, token in enumerate(explanation["query_tokens"]) if token["match"]]
            np.testing.assert_allclose(np.array(explanation["matrix"])[scoring], similarities, atol=1e-3)
            assert explanation["exact"]
            for place, row in zip(scoring, similarities, strict=True):
                found = explanation["query_tokens"][place]
                assert found["contribution"] == pytest.approx(row.max() / len(tokens), abs=1e-3)
                same += found["match"] == explanation["document_tokens"][int(row.argmax())]
                total += 1
    assert same >= 0.99 * total


def test_windows_and_pooling_point_into_the_whole_text(search: SearchService) -> None:
    windows = explained(search, "windows", "sugar row")["long"]
    assert windows["read"] == [0, len(TEXTS["long"])]
    cut = explained(search, "cut", "sugar row")["long"]
    assert cut["read"][0] == 0 and 0 < cut["read"][1] < len(TEXTS["long"])
    pooled = explained(search, "pooled", "sugar row", explain_matrix=True)["long"]
    clusters = [token["cluster"] for token in pooled["document_tokens"]]
    assert not pooled["exact"] and max(map(len, clusters)) > 1
    for token in (token for token in pooled["query_tokens"] if token["match"]):
        assert {key: token["match"][key] for key in ("token", "start", "end")} in token["match"]["cluster"]


@pytest.mark.parametrize("collection", ["cut", "windows"])
def test_words_and_special_share_are_what_the_similarities_say(search: SearchService, collection: str) -> None:
    """Here no text spells out a special token: those are the ones without a place."""
    words = 0
    for query in QUERIES:
        for key, explanation in explained(search, collection, query, explain_matrix=True).items():
            document = explanation["document_tokens"]
            of_text = np.array([token["start"] is not None for token in document])
            found: list[Excess] = []
            share = {False: 0.0, True: 0.0}
            for place, token in enumerate(explanation["query_tokens"]):
                if not token["match"]:
                    continue
                row = np.array(explanation["matrix"][place])
                share[token["start"] is None or not of_text[row.argmax()]] += abs(row.max())
                if token["start"] is not None:
                    best = document[int(np.where(of_text, row, -2).argmax())]
                    found.append(Excess(place, best["start"], best["end"], row[of_text].max() - row.mean()))
            assert explanation["special_share"] == pytest.approx(share[True] / sum(share.values()), rel=1e-5)
            expected = spans(TEXTS[key], found)
            assert [span["score"] for span in explanation["spans"]] == pytest.approx([one.score for one in expected])
            assert explanation["spans"] == [
                {**vars(one), "score": span["score"]} for one, span in zip(expected, explanation["spans"], strict=True)
            ]
            words += len(expected)
    assert words > 20


def test_words_that_are_near_to_everything_are_not_lit_up(context: Context) -> None:
    """[CLS] is nearest to every query token, and the query's "and" is near to every word: naive maxima show both."""
    artifact = load_artifact(latest_version_dir(context.repository / "encoder"))
    tokenizer, spec = artifact.tokenizer(), new_collection_spec(artifact, Codec.FLOAT32)
    text, query = "remove a directory and everything", "remove and"
    (window,) = tokenizer.document_tokens(text, document_reading(spec, artifact.manifest))

    def embeddings(tokens: Sequence[TextToken], along: Callable[[TextToken], tuple[float, float]]) -> NDArray[Any]:
        """Along two directions: the one that the query's "remove" asks for, and that of its "and"."""
        rows = np.zeros((len(tokens), artifact.manifest.dim), np.float32)
        rows[:, :2] = [along(token) for token in tokens]
        return rows[[token.scores for token in tokens]]

    near = {"[CLS]": (0.9, 0.9), "remove": (0.8, 0.65), "and": (0.0, 0.7)}
    document = embeddings(window, lambda token: near.get(token.token, (0.0, 0.65 * bool(token.place))))
    asked = embeddings(tokenizer.query_tokens(query), lambda token: (token.place == (0, 6), token.place == (7, 10)))
    collection = Store(context.store).create("c", spec)
    collection.upsert([Document("d", text, {})], [document])
    search = SearchService(context)
    inputs = {"QUERY": strings(query), "QUERY_EMBEDDINGS": asked[None]}
    (answer,) = answers(search, [Request(inputs, {"collection": "c", "explain": 1})])
    search.close()
    assert not isinstance(answer, RequestError), answer
    explanation = json.loads(answer["EXPLANATIONS"][0, 0])
    remove, conjunction = (token for token in explanation["query_tokens"] if token["similarity"])
    assert remove["match"]["token"] == conjunction["match"]["token"] == "[CLS]" and explanation["special_share"] == 1
    assert [span["text"] for span in explanation["spans"]] == ["remove"]


def test_what_cannot_be_explained_is_refused(search: SearchService) -> None:
    def asked(inputs: dict[str, Any], **parameters: Any) -> Request:
        return Request(inputs, {"collection": "cut", **parameters})

    query = {"QUERY": strings("row")}
    refused = [
        (asked(query, explain=65), "parameter explain is 65; expected an integer from 0 to 64"),
        (asked(query, explain=True), "parameter explain is True"),
        (asked(query, explain=3, mode="bm25"), "in a search of mode bm25, which compares no token embeddings"),
        (asked(query, explain_matrix=True), "explain_matrix is true where no hit is explained"),
        (asked({"QUERY": strings(*"abc")}, explain=30), "explain is 30 for 3 queries; expected at most 64 explained"),
    ]
    for (_, message), result in zip(refused, answers(search, [one for one, _ in refused]), strict=True):
        assert isinstance(result, RequestError) and result.code is ErrorCode.INVALID_ARGUMENT
        assert message in str(result)


def test_a_query_of_special_tokens_only_lights_nothing_up(search: SearchService) -> None:
    for explanation in explained(search, "int8", "[CLS][SEP] [MASK]").values():
        assert not explanation["exact"] and not explanation["spans"] and explanation["special_share"] == 1


def test_queries_of_any_magnitude_are_explained(search: SearchService) -> None:
    """Some similarities are beyond float32, which JSON does not have; the score is not."""
    dim = 16
    query = np.zeros((1, 2, dim), np.float32)
    query[0, 0], query[0, 1] = 3e38, -3e38
    asked = {"collection": "int8", "explain": 4, "explain_matrix": True}
    for scaled in (query, query * 0, query * 1e-38):
        (answer,) = answers(search, [Request({"QUERY_EMBEDDINGS": scaled}, asked)])
        if isinstance(answer, RequestError):
            assert answer.code is ErrorCode.INVALID_ARGUMENT, answer
            continue
        for raw in answer["EXPLANATIONS"][0]:
            explanation = json.loads(raw)
            assert np.isfinite(explanation["matrix"]).all() and len(explanation["query_tokens"]) == 2
