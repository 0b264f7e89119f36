"""One pass over the index for every search of a batch that can share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from service_requests import answers, strings, upsert

from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Found, Snapshot
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
