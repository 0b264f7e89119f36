"""A batch of searches is one copy to the device, one search, one copy back and one look-up; a filter is kept there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from service_requests import answers, strings
from torch.utils._python_dispatch import TorchDispatchMode

from tridex.encoding import create_encoder, latest_version_dir, load_artifact
from tridex.index import Collection
from tridex.index.resident import snapshot
from tridex.kernels import Segment
from tridex.serving.backend.service import Context, Request, RequestError
from tridex.serving.engine import batch, query_batch
from tridex.serving.engine.explanations import Explainer
from tridex.serving.engine.query_batch import QueryBatch
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.models.ingest import IngestService
from tridex.serving.requests.search import SearchRequest

DOCUMENTS = 12
META = torch.device("meta")
"""A device of torch's whose tensors have no numbers: what goes there is a copy, as to a GPU."""


@pytest.fixture
def engine(context: Context) -> Iterator[SearchEngine]:
    ingest = IngestService(context)
    create = {"collection": "c", "operation": "create", "codec": "float16", "fields": json.dumps({"n": "int"})}
    inputs = {
        "ID": strings(*map(str, range(DOCUMENTS))),
        "TEXT": strings(*(f"the moon {i}" for i in range(DOCUMENTS))),
        "METADATA": strings(*(json.dumps({"n": i}) for i in range(DOCUMENTS))),
    }
    upsert = {"collection": "c", "operation": "upsert"}
    requests = [Request({"ID": strings().reshape(1, 0)}, create), Request(inputs, upsert)]
    assert not any(isinstance(written, RequestError) for request in requests for written in answers(ingest, [request]))
    ingest.close()
    artifact = load_artifact(latest_version_dir(context.repository / "encoder"))
    explainer = Explainer(artifact.manifest, artifact.tokenizer(), create_encoder(artifact).encode_many)
    engine = SearchEngine(context, artifact, explainer)
    yield engine
    engine.close()


@pytest.fixture
def dim(context: Context) -> int:
    return load_artifact(latest_version_dir(context.repository / "encoder")).manifest.dim


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each step is taken."""
    counted: Counter[str] = Counter()

    def count(name: str, owner: Any, attribute: str) -> None:
        call: Callable[..., Any] = getattr(owner, attribute)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return call(*arguments, **options)

        monkeypatch.setattr(owner, attribute, counting)

    count("up", query_batch, "host_buffer")
    count("down", batch, "copy_to_host")
    count("down", snapshot, "copy_to_host")
    count("search", snapshot.kernels, "search")
    count("look-up", snapshot, "_hits")
    count("read", Collection, "payload")
    count("bitmap", Segment, "with_live")
    return counted


def search(dim: int, tokens: int = 3, *, masked: bool = False, **parameters: Any) -> SearchRequest:
    inputs: dict[str, Any] = {
        "QUERY_EMBEDDINGS": np.random.default_rng(tokens).normal(size=(1, tokens, dim)).astype(np.float32)
    }
    if masked:
        inputs["QUERY_MASK"] = np.array([[1] * (tokens - 1) + [0]])
    return SearchRequest.parse(Request(inputs, {"collection": "c", **parameters}))


def test_a_batch_is_one_of_each(engine: SearchEngine, dim: int, calls: Counter[str]) -> None:
    """Whatever its requests ask for of the documents that they share."""
    requests = [
        search(dim),
        search(dim, 5, top_k=2, with_text=False),
        search(dim, 9, masked=True, top_k=7, with_metadata=False),
        search(dim, 1, normalize=True, min_score="0.1"),
        search(dim, 4, offset=2),
    ]
    results = engine.answer(requests)
    assert all(isinstance(result, dict) for result in results)
    assert calls == {"up": 1, "down": 1, "search": 1, "look-up": 1, "read": 1}


def test_requests_of_several_passes_come_back_together(engine: SearchEngine, dim: int, calls: Counter[str]) -> None:
    condition = json.dumps({"field": "meta.n", "operator": ">=", "value": 5})
    engine.answer([search(dim, with_text=False, with_metadata=False)])
    engine.answer([search(dim, with_text=False, with_metadata=False, filters=condition)])
    calls.clear()
    engine.answer(
        [
            search(dim, with_text=False, with_metadata=False),
            search(dim, with_text=False, with_metadata=False, filters=condition),
            search(dim, with_text=False, with_metadata=False, exact=False),
        ]
    )
    assert calls == {"up": 1, "down": 1, "search": 3, "look-up": 3}


def test_given_documents_come_back_with_the_batch_and_reranked_ones_together(
    engine: SearchEngine, dim: int, calls: Counter[str]
) -> None:
    """The second when BM25 has said which they are."""
    embeddings = np.random.default_rng(0).normal(size=(1, 3, dim)).astype(np.float32)
    given = {"QUERY_EMBEDDINGS": embeddings, "CANDIDATE_IDS": strings("3", "nowhere", "5").reshape(1, 3)}
    named = [SearchRequest.parse(Request(given, {"collection": "c"})) for _ in range(2)]
    by_words = Request({"QUERY": strings("moon")}, {"collection": "c", "mode": "rerank", "top_k": 5})
    reranked = [SearchRequest.parse(by_words).encoded(embeddings, np.ones((1, 3), np.int64)) for _ in range(3)]
    results = engine.answer([search(dim), *named, *reranked])
    assert all(isinstance(result, dict) for result in results)
    assert {*results[1]["IDS"][0].tolist()} == {b"3", b"5"}  # type: ignore[index]
    assert results[3]["IDS"].shape == (1, 5)  # type: ignore[index]
    assert calls["up"] == 1 and calls["down"] == 2


def test_a_filter_is_uploaded_once(engine: SearchEngine, dim: int, calls: Counter[str]) -> None:
    """However it is written, and whatever else is asked for."""
    conditions = [
        {"field": "meta.n", "operator": ">=", "value": 5},
        {"value": 5, "operator": ">=", "field": "meta.n"},
    ]
    for condition, exact in zip(conditions * 2, (True, True, False, False), strict=True):
        (result,) = engine.answer([search(dim, filters=json.dumps(condition), top_k=20, exact=exact)])
        assert isinstance(result, dict) and result["IDS"].shape == (1, DOCUMENTS - 5)
    assert calls["bitmap"] == 1
    engine.answer([search(dim, filters=json.dumps({**conditions[0], "value": 6}))])
    assert calls["bitmap"] == 2


class Copies(TorchDispatchMode):
    """Counts what torch copies from the host to META."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        result = operation(*given, **(options or {}))
        tensors = [one for one in given if isinstance(one, torch.Tensor)]
        is_there = isinstance(result, torch.Tensor) and result.device == META
        self.count += is_there and any(one.device != META for one in tensors)
        return result


@pytest.mark.parametrize("on_device", [(), (0, 1, 2), (1,)])
def test_queries_go_up_in_one_copy(on_device: tuple[int, ...]) -> None:
    """Their masks, and their embeddings where these are on the host."""
    rng = np.random.default_rng(0)
    given: list[tuple[Any, Any]] = [
        (rng.normal(size=(queries, tokens, 8)).astype(np.float32), mask)
        for queries, tokens, mask in [(1, 5, None), (3, 2, np.array([[1, 0]] * 3)), (2, 5, np.ones((2, 5), np.int64))]
    ]
    for i in on_device:
        given[i] = torch.from_numpy(given[i][0]).to(META), given[i][1]
    with Copies() as copies:
        made = QueryBatch.of(given, 8, META)
    assert copies.count == 1
    assert made.queries.embeddings.shape == (6, 5, 8) and made.queries.mask.shape == (6, 5)
    assert {made.queries.embeddings.device, made.queries.mask.device, made.finite.device} == {META}
    assert made.scoring_tokens.tolist() == [5, 1, 1, 1, 5, 5]
