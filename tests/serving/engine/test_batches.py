"""A batch's answers are those that each request has alone, whatever else is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_requests import answers, strings

from tridex.encoding import create_encoder, latest_version_dir, load_artifact
from tridex.index import Collection
from tridex.protocol import limits
from tridex.serving.backend.service import Arrays, Context, Request, RequestError
from tridex.serving.engine.explanations import Explainer
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.models.ingest import IngestService
from tridex.serving.requests.search import SearchRequest

WORDS = ("red", "blue", "planet", "moon", "dust", "comet")


@pytest.fixture
def engine(context: Context) -> Iterator[SearchEngine]:
    ingest = IngestService(context)
    empty = strings().reshape(1, 0)
    create = {"operation": "create", "fields": json.dumps({"n": "int"})}
    requests = [Request({"ID": empty}, {**create, "collection": name, "codec": "float16"}) for name in ("c", "d")]
    for name, ids in (("c", range(9)), ("d", range(3)), ("c", range(9, 20))):  # c in two segments
        texts = [f"{WORDS[i % 6]} {WORDS[i * 5 % 7 % 6]} {i}" for i in ids]
        inputs = {"ID": strings(*map(str, ids)), "TEXT": strings(*texts)}
        inputs["METADATA"] = strings(*(json.dumps({"n": i}) for i in ids))
        requests.append(Request(inputs, {"collection": name, "operation": "upsert"}))
    for request in requests:
        (written,) = answers(ingest, [request])
        assert not isinstance(written, RequestError), written
    ingest.close()
    artifact = load_artifact(latest_version_dir(context.repository / "encoder"))
    explainer = Explainer(artifact.manifest, artifact.tokenizer(), create_encoder(artifact).encode_many)
    engine = SearchEngine(context, artifact, explainer)
    yield engine
    engine.close()


def answered(engine: SearchEngine, requests: Sequence[SearchRequest]) -> list[Arrays | RequestError]:
    results = engine.answer(requests)
    assert all(isinstance(result, dict | RequestError) for result in results)
    return list(results)  # type: ignore[arg-type]


def shown(result: Arrays | RequestError) -> Any:
    if isinstance(result, RequestError):
        return result.code, str(result)
    return {name: (value.dtype, value.shape, value.tolist()) for name, value in result.items()}


@st.composite
def searches(draw: st.DrawFn, dim: int) -> SearchRequest:
    mode = draw(st.sampled_from(["maxsim", "bm25", "rerank", "hybrid"]))
    queries, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    embeddings = random.normal(size=(queries, tokens, draw(st.sampled_from([dim, dim, dim, dim + 1]))))
    embeddings[-1, -1, 0] = draw(st.sampled_from([0, 0, 0, np.nan, 3e38]))
    inputs: dict[str, Any] = {
        "QUERY": strings(*(" ".join(random.choice(WORDS, 2)) for _ in range(queries))),
        "QUERY_EMBEDDINGS": embeddings.astype(np.float32),
    }
    if draw(st.booleans()):
        inputs["QUERY_MASK"] = random.integers(0, 2, (queries, tokens))
    if mode == "maxsim" and draw(st.booleans()):
        inputs["CANDIDATE_IDS"] = np.array([[b"1", b"5", b"none"]] * queries, object)
    parameters: dict[str, Any] = {
        "collection": draw(st.sampled_from(["c", "c", "d", "none"])),
        "mode": mode,
        "top_k": draw(st.sampled_from([1, 3, 100])),
        "with_text": draw(st.booleans()),
        "with_metadata": draw(st.booleans()),
    }
    if draw(st.booleans()):
        condition = {"field": "meta.n", "operator": ">=", "value": draw(st.sampled_from([5, 12, 99]))}
        parameters["filters"] = json.dumps(condition)
    if mode in ("maxsim", "hybrid") and "CANDIDATE_IDS" not in inputs and draw(st.booleans()):
        parameters["exact"] = False
    return SearchRequest.parse(Request(inputs, parameters))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_batch_is_each_of_its_requests(engine: SearchEngine, context: Context, data: st.DataObject) -> None:
    dim = load_artifact(latest_version_dir(context.repository / "encoder")).manifest.dim
    batch = data.draw(st.lists(searches(dim), min_size=1, max_size=8))
    alone = [shown(answered(engine, [request])[0]) for request in batch]
    assert [shown(result) for result in answered(engine, batch)] == alone
    # Started side by side, as on a GPU.
    first, second = engine.start(batch[::2]), engine.start(batch[1::2])
    assert [shown(result) for result in second()] == alone[1::2]  # type: ignore[arg-type]
    assert [shown(result) for result in first()] == alone[::2]  # type: ignore[arg-type]


def test_what_is_too_large_or_unreadable_fails_alone(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(text: str, top_k: int) -> SearchRequest:
        parameters = {"collection": "c", "mode": "bm25", "top_k": top_k}
        return SearchRequest.parse(Request({"QUERY": strings(text)}, parameters))

    batch = [search("red", 1), search("planet moon", 20), search("blue", 1)]
    good = [shown(result) for result in answered(engine, batch)]
    with monkeypatch.context() as patched:
        patched.setattr(limits, "MAX_ANSWER_BYTES", 200)
        first, large, last = answered(engine, batch)
    assert [shown(first), shown(last)] == [good[0], good[2]]
    assert isinstance(large, RequestError) and "the answer would hold more than 200 bytes (texts and" in str(large)

    payload = Collection.payload

    def failing(self: Collection, addresses: Any) -> Any:
        if len(addresses) > 1:
            raise RequestError(large.code, "cannot be read")
        return payload(self, addresses)

    monkeypatch.setattr(Collection, "payload", failing)
    first, large, last = answered(engine, batch)
    assert [shown(first), shown(last)] == [good[0], good[2]]
    assert isinstance(large, RequestError) and str(large) == "cannot be read"
