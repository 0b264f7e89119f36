"""One pass over the index for every search of a batch that can share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from service_requests import answers, strings, upsert

from tridex.building import new_collection_spec
from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Document, Found, Snapshot, Store
from tridex.kernels import Codec
from tridex.serving.backend.service import Context, Request, RequestError
from tridex.serving.engine.explanations import Explainer
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.models.ingest import IngestService
from tridex.serving.modes import Queries
from tridex.serving.modes.approximate_maxsim import ApproximateMaxSim
from tridex.serving.modes.maxsim import MaxSim
from tridex.serving.requests.search import SearchRequest


def test_searches_share_passes(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest = IngestService(context)
    texts = {"a": "red planet", "b": "blue moon"}
    written = answers(ingest, [upsert("c", texts), upsert("other", texts)])
    assert not any(isinstance(version, RequestError) for version in written)
    ingest.close()
    passes: list[tuple[str, str, int, int]] = []
    for scan in (MaxSim, ApproximateMaxSim):
        find: Callable[..., Found] = scan.find

        def counted(self: Any, snapshot: Snapshot, queries: Queries, depth: int, *, find: Any = find) -> Found:
            passes.append((type(self).__name__, snapshot.collection.name, len(queries.mask), depth))
            found: Found = find(self, snapshot, queries, depth)
            return found

        monkeypatch.setattr(scan, "find", counted)
    artifact = load_artifact(latest_version_dir(context.repository / "encoder"))
    embeddings = np.ones((1, 3, artifact.manifest.dim), np.float32)

    def search(collection: str = "c", **parameters: Any) -> SearchRequest:
        inputs = {"QUERY": strings("red"), "QUERY_EMBEDDINGS": embeddings}
        return SearchRequest.parse(Request(inputs, {"collection": collection, **parameters}))

    engine = SearchEngine(context, artifact, Explainer(artifact.manifest, artifact.tokenizer(), lambda _: []))
    try:
        results = engine.answer(
            [
                search(),
                search(mode="bm25"),
                search(top_k=2),
                search(mode="hybrid", n_candidates=40),
                search(exact=False),
                search("other"),
                search(mode="rerank"),
                search(mode="hybrid", exact=False, n_candidates=1000),
                search(exact=False, n_probe=2),
            ]
        )
    finally:
        engine.close()
    assert all(isinstance(result, dict) for result in results)
    assert passes == [
        ("MaxSim", "c", 3, 40),
        ("ApproximateMaxSim", "c", 2, 1000),
        ("MaxSim", "other", 1, 10),
        ("ApproximateMaxSim", "c", 1, 10),
    ]


@pytest.mark.parametrize("similarity", ["maxsim", "meanmaxsim"])
def test_a_normalised_score_means_the_same_for_short_and_long_queries(
    context: Context, similarity: Literal["maxsim", "meanmaxsim"]
) -> None:
    """The document has 8 of 16 directions; a query token scores 1 in one of them and 0 in any other."""
    artifact = load_artifact(latest_version_dir(context.repository / "encoder"))
    rules = replace(artifact.manifest.rules, similarity=similarity)
    artifact = replace(artifact, manifest=replace(artifact.manifest, rules=rules))
    directions = np.eye(artifact.manifest.dim, dtype=np.float32)
    collection = Store(context.store).create("c", new_collection_spec(artifact, Codec.FLOAT32))
    collection.upsert([Document("d", "text", {})], [directions[:8]])
    engine = SearchEngine(context, artifact, Explainer(artifact.manifest, artifact.tokenizer(), lambda _: []))

    def score(tokens: list[int], normalize: bool) -> float:
        padded = np.zeros((1, 20, len(directions)), np.float32)
        padded[0, : len(tokens)] = directions[tokens]
        padded[0, len(tokens) :] = directions[0]  # They would score, were it not for the mask.
        inputs = {"QUERY_EMBEDDINGS": padded, "QUERY_MASK": (np.arange(20) < len(tokens)).astype(np.int64)[None]}
        (found,) = engine.answer([SearchRequest.parse(Request(inputs, {"collection": "c", "normalize": normalize}))])
        assert isinstance(found, dict), found
        return float(found["SCORES"][0, 0])

    same, half = [list(range(8)), [3]], [[*range(8), *8 * [9]], [3, 9]]
    try:
        assert [score(query, normalize=True) for query in same] == pytest.approx([1, 1])
        assert [score(query, normalize=True) for query in half] == pytest.approx([0.5, 0.5])
        plain = [8, 1, 8, 1] if similarity == "maxsim" else [1, 1, 0.5, 0.5]
        assert [score(query, normalize=False) for query in same + half] == pytest.approx(plain)
    finally:
        engine.close()
