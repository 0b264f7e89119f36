"""What the search service refuses of modes and their parameters, as a client of another make could send them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from service_requests import answers, strings, upsert

from tridex.serving.backend.service import Context, ErrorCode, Request, RequestError
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService


@pytest.fixture
def search(context: Context) -> Iterator[SearchService]:
    ingest = IngestService(context)
    (written,) = answers(ingest, [upsert("c", {"a": "red planet", "b": "blue moon", "d": "red dust"})])
    assert not isinstance(written, RequestError)
    ingest.close()
    service = SearchService(context)
    yield service
    service.close()


def request(dim: int, text: str | bytes | None, **parameters: Any) -> Request:
    embeddings = np.ones((1, 3, dim), np.float32) / np.float32(dim) ** 0.5
    inputs: dict[str, Any] = {"QUERY_EMBEDDINGS": embeddings}
    if text is not None:
        inputs["QUERY"] = strings("x")
        inputs["QUERY"][0, 0] = text.encode() if isinstance(text, str) else text
    return Request(inputs, {"collection": "c", **parameters})


def dim_of(search: SearchService) -> int:
    (answer,) = answers(search, [Request({"QUERY_EMBEDDINGS": np.ones((1, 1, 1), np.float32)}, {"collection": "c"})])
    return int(str(answer).partition("tokens, ")[2].partition("]")[0])


BAD = [
    ("text", {"mode": "sparse"}, "parameter mode is 'sparse'; expected one of: maxsim, bm25, rerank, hybrid"),
    ("text", {"mode": 7}, "parameter mode is 7"),
    ("text", {"exact": "false"}, "parameter exact is 'false'; expected true or false"),
    ("text", {"exact": False, "n_probe": 0}, "parameter n_probe is 0; expected an integer from 1 to 1024"),
    ("text", {"exact": False, "n_probe": 10**9}, "parameter n_probe is 1000000000"),
    ("text", {"exact": False, "n_probe": True}, "parameter n_probe is True"),
    ("text", {"exact": False, "n_candidates": 0}, "parameter n_candidates is 0; expected an integer from 1 to 10000"),
    ("text", {"mode": "hybrid", "n_candidates": 4}, "n_candidates is 4; expected at least 10, which is top_k"),
    ("text", {"mode": "hybrid", "maxsim_weight": "nan"}, "parameter maxsim_weight is 'nan'; expected a number from 0"),
    ("text", {"mode": "hybrid", "maxsim_weight": "-1e-9"}, "parameter maxsim_weight is '-1e-9'"),
    ("text", {"mode": "hybrid", "maxsim_weight": "inf"}, "parameter maxsim_weight is 'inf'"),
    ("text", {"mode": "hybrid", "maxsim_weight": "half"}, "parameter maxsim_weight is 'half'"),
    ("text", {"mode": "hybrid", "maxsim_weight": 1}, "parameter maxsim_weight is 1"),
    ("text", {"maxsim_weight": "0.5"}, "maxsim_weight is '0.5' in a search of mode maxsim with exact true"),
    ("text", {"mode": "bm25", "exact": False}, "exact is False in a search of mode bm25"),
    (None, {"mode": "bm25"}, "input QUERY is missing"),
    (None, {"mode": "hybrid"}, "input QUERY is missing"),
    ("", {"mode": "bm25"}, "input QUERY holds ''; expected a text that is not empty"),
    (b"\xff", {"mode": "bm25"}, "input QUERY holds b'\\xff', which is not valid UTF-8"),
    ("x " * (1 << 19), {"mode": "rerank"}, "input QUERY holds a text of 1048576 bytes; expected at most 262144"),
]


def test_each_bad_request_is_refused_by_name_and_the_others_of_its_batch_are_answered(search: SearchService) -> None:
    dim = dim_of(search)
    good = [
        request(dim, "red", mode="bm25"),
        request(dim, "red", mode="hybrid"),
        request(dim, "red", mode="hybrid", maxsim_weight="0.5", exact=False),
        request(dim, "red", mode="rerank"),
        request(dim, None),
        request(dim, None, exact=False, n_probe=1024),
    ]
    alone = [answers(search, [one])[0] for one in good]
    bad = [request(dim, text, **parameters) for text, parameters, _ in BAD]
    results = answers(search, [one for pair in zip(bad, good * 4, strict=False) for one in pair])
    for (_, _, message), result in zip(BAD, results[::2], strict=True):
        assert isinstance(result, RequestError) and result.code is ErrorCode.INVALID_ARGUMENT
        assert message in str(result)
    for i, result in enumerate(results[1::2]):
        expected = alone[i % len(good)]
        assert not isinstance(result, RequestError) and not isinstance(expected, RequestError)
        for name in ("IDS", "SCORES", "TEXTS"):
            assert result[name].tolist() == expected[name].tolist()
    assert [{*alone[i]["IDS"][0].tolist()} for i in (0, 3)] == [{b"a", b"d"}] * 2  # type: ignore[index]


def test_bm25_reads_words_and_the_others_encode_them(search: SearchService) -> None:
    words = strings("moon", "nothing", "red planet")
    (found,) = answers(search, [Request({"QUERY": words}, {"collection": "c", "mode": "bm25"})])
    assert not isinstance(found, RequestError)
    assert found["IDS"].tolist() == [[b"b", b""], [b"", b""], [b"a", b"d"]]
    assert np.isneginf(found["SCORES"]).tolist() == [[False, True], [True, True], [False, False]]
    assert found["TEXTS"].tolist() == [[b"blue moon", b""], [b"", b""], [b"red planet", b"red dust"]]
    for mode in ("maxsim", "rerank", "hybrid"):
        found, refused = answers(
            search, [Request(inputs, {"collection": "c", "mode": mode}) for inputs in ({"QUERY": strings("moon")}, {})]
        )
        assert not isinstance(found, RequestError) and b"b" in found["IDS"][0]
        assert "input QUERY is missing" in str(refused)


def test_given_candidates_are_scored_by_maxsim_alone(search: SearchService) -> None:
    dim = dim_of(search)
    for parameters in ({"mode": "bm25"}, {"mode": "rerank"}, {"mode": "hybrid"}, {"exact": False}):
        asked = request(dim, "red", **parameters)
        asked = Request({**asked.inputs, "CANDIDATE_IDS": strings("a")}, asked.parameters)
        (refused,) = answers(search, [asked])
        assert isinstance(refused, RequestError) and "input CANDIDATE_IDS is given beside mode" in str(refused)


@pytest.mark.parametrize("candidates", [False, True])
def test_a_score_beyond_float32_is_refused_alone(search: SearchService, candidates: bool) -> None:
    def asked(magnitude: float) -> Request:
        query = np.full((1, 4, dim_of(search)), magnitude, np.float32)
        inputs = {
            "QUERY_EMBEDDINGS": query,
            **({"CANDIDATE_IDS": strings("a", "b").reshape(1, -1)} if candidates else {}),
        }
        return Request(inputs, {"collection": "c"})

    large, beyond, small = answers(search, [asked(1e30), asked(3e38), asked(1e-30)])
    assert isinstance(beyond, RequestError) and beyond.code is ErrorCode.INVALID_ARGUMENT
    assert "input QUERY_EMBEDDINGS gives a score beyond 3.4e+38; expected smaller numbers" in str(beyond)
    for found in (large, small):
        assert not isinstance(found, RequestError)
        assert np.isfinite(found["SCORES"]).all() and found["SCORES"].all() and b"a" in found["IDS"]
