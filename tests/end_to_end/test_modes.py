"""Every search mode on the real server: BM25, hybrid, reranked, approximate."""

from __future__ import annotations

import re
import threading
import time
import urllib.request

import pytest

from tridex.client import AsyncClient, Client, Document, InvalidArgument, SearchResult
from tridex.serving.server import TritonServer

WORDS = ["amber", "basalt", "cobalt", "dune", "ember", "fjord", "glacier", "harbour"]
WORDS += ["island", "jetty", "karst", "lagoon", "mesa", "nebula", "oasis", "prairie"]
COUNT = 1200
"""Enough for inverted lists."""


def text(i: int) -> str:
    return " ".join(WORDS[(i // 16**place + place) % 16] for place in range(3))


@pytest.fixture(scope="module")
def places(server: TritonServer) -> str:
    with Client(server.address, timeout_s=120) as client:
        client.create_collection("places", codec="float32", fields={"even": "bool"})
        documents = [Document(f"{i:04}", text(i), {"even": i % 2 == 0}) for i in range(COUNT)]
        client.upsert("places", documents, batch_size=64)
        client.search("places", "read your writes")
    return "places"


def ids(result: SearchResult) -> list[str]:
    return [hit.id for hit in result]


def test_bm25_finds_words_and_nothing_else(client: Client, places: str) -> None:
    found = client.search(places, "the glaciers", mode="bm25", top_k=2000)
    assert sorted(ids(found)) == [f"{i:04}" for i in range(COUNT) if "glacier" in text(i)], "stemmed, without 'the'"
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0
    assert found[0].text is not None and "glacier" in found[0].text and found[0].metadata is not None
    assert len(client.search(places, "volcano", mode="bm25")) == 0


def test_hybrid_is_the_fusion_of_both(client: Client, places: str) -> None:
    query = "an island of basalt"
    maxsim = client.search(places, query, top_k=50)
    bm25 = client.search(places, query, mode="bm25", top_k=50)
    by_rank: dict[str, float] = {}
    by_score: dict[str, float] = {}
    for result, weight in ((maxsim, 0.3), (bm25, 0.7)):
        low, high = result[-1].score, result[0].score
        for rank, hit in enumerate(result, 1):
            by_rank[hit.id] = by_rank.get(hit.id, 0) + 1 / (60 + rank)
            by_score[hit.id] = by_score.get(hit.id, 0) + weight * (hit.score - low) / (high - low)
    for expected, options in ((by_rank, {}), (by_score, {"maxsim_weight": 0.3})):
        fused = client.search(places, query, mode="hybrid", n_candidates=50, top_k=20, **options)
        assert len(fused) == 20
        for hit, best in zip(fused, sorted(expected.values(), reverse=True), strict=False):
            assert hit.score == pytest.approx(expected[hit.id], abs=1e-4) == pytest.approx(best, abs=1e-4)


def test_rerank_scores_bm25s_candidates_exactly(client: Client, places: str) -> None:
    query = "harbour and jetty"
    exact = {hit.id: hit.score for hit in client.search(places, query, top_k=COUNT)}
    candidates = ids(client.search(places, query, mode="bm25", top_k=30))
    found = client.search(places, query, mode="rerank", top_k=5, n_candidates=30)
    assert ids(found) == sorted(candidates, key=lambda key: (-exact[key], key))[:5]
    assert [hit.score for hit in found] == pytest.approx([exact[hit.id] for hit in found], abs=1e-5)


def test_filters_deletes_and_upserts_count_in_every_mode(client: Client, places: str) -> None:
    even = {"field": "even", "operator": "==", "value": True}
    searches = [{"mode": mode} for mode in ("maxsim", "bm25", "rerank", "hybrid")] + [{"exact": False}]
    for options in searches:
        key = "fresh " + str(options)
        client.upsert(places, [Document(key, "xylophone xylophone", {"even": True})])
        assert ids(client.search(places, "xylophone", top_k=1, filters=even, **options)) == [key]
        odd = {"operator": "NOT", "conditions": [even]}
        assert key not in ids(client.search(places, "xylophone", top_k=50, filters=odd, **options))
        client.upsert(places, [Document(key, "a quiet prairie", {"even": True})])
        assert key not in ids(client.search(places, "xylophone", top_k=1, mode="bm25"))
        client.delete(places, [key])
        assert key not in ids(client.search(places, "quiet prairie", top_k=50, **options))


def test_one_batch_may_mix_modes_and_numbers_of_hits(client: Client, places: str) -> None:
    queries = ["dune", "volcano", "dune ember"]
    together = client.search_batch(places, queries, mode="bm25", top_k=500)
    assert [ids(result) for result in together] == [
        ids(client.search(places, query, mode="bm25", top_k=500)) for query in queries
    ]
    assert len({len(result) for result in together}) == 3
    searches = [
        {},
        {"mode": "bm25"},
        {"mode": "hybrid"},
        {"mode": "rerank"},
        {"exact": False},
        {"mode": "hybrid", "exact": False},
    ]
    expected = [ids(client.search(places, "oasis lagoon", **options)) for options in searches]
    failures: list[object] = []

    def ask(i: int) -> None:
        bad = i % 7 == 6
        try:
            found = (
                ids(client.search(places, "oasis lagoon", mode="hybrid", n_candidates=3, top_k=10))
                if bad
                else (ids(client.search(places, "oasis lagoon", **searches[i % 7])))
            )
            if bad or found != expected[i % 7]:
                failures.append((i, found))
        except InvalidArgument as error:
            if not bad:
                failures.append((i, error))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(42)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def metric(server: TritonServer, name: str, labels: str) -> float:
    with urllib.request.urlopen(f"http://{server.host}:{server.ports['metrics']}/metrics") as answer:
        lines = answer.read().decode()
    found = re.search(rf"^{name}\{{{labels}\}} (\S+)$", lines, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_the_recall_of_approximate_search_is_monitored(client: Client, server: TritonServer, places: str) -> None:
    """Exact until the lists are made, and then counted as what it misses."""
    labels = 'collection="places",k="10"'
    deadline = time.monotonic() + 60

    def counted() -> tuple[float, float]:
        return metric(server, "tridex_recall_hits_found_total", labels), metric(
            server, "tridex_recall_hits_expected_total", labels
        )

    # Read one after the other, they may be of two moments: until some are found, and not all.
    while not 0 < (before := counted())[0] < before[1]:
        found = ids(client.search(places, "ember glacier", exact=False, n_probe=1, n_candidates=10))
        assert len(set(found)) == 10 and time.monotonic() < deadline
    exact = ids(client.search(places, "ember glacier"))
    assert ids(client.search(places, "ember glacier", exact=False, n_probe=1024, n_candidates=1190)) == exact


def test_embeddings_are_searched_by_candidates_and_not_by_words(client: Client, places: str) -> None:
    query = client.encode_query("karst island")
    by_text = client.search(places, "karst island", exact=False, n_candidates=100)
    assert ids(client.search(places, query, exact=False, n_candidates=100)) == ids(by_text)
    with pytest.raises(InvalidArgument, match="mode: 'hybrid' expects queries that are text"):
        client.search(places, query, mode="hybrid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "dense"}, "mode: expected one of maxsim, bm25, rerank, hybrid, got 'dense'"),
        ({"exact": "no"}, "exact: expected True or False"),
        ({"exact": False, "n_probe": 0}, "n_probe: expected an integer of at least 1 and at most 1024, got 0"),
        ({"exact": False, "n_probe": 1025}, "n_probe: .* got 1025"),
        ({"n_probe": 4}, "n_probe is 4 in a search of mode maxsim with exact true, where it has no effect"),
        ({"n_candidates": 100}, "n_candidates is 100 in a search of mode maxsim with exact true"),
        ({"mode": "hybrid", "n_candidates": 10_001}, "n_candidates: .* at most 10000"),
        ({"mode": "rerank", "n_candidates": 9}, "n_candidates is 9; expected at least 10, which is top_k"),
        ({"mode": "rerank", "exact": False}, "exact is False in a search of mode rerank"),
        ({"mode": "bm25", "maxsim_weight": 0.5}, "maxsim_weight is '0.5' in a search of mode bm25"),
        ({"mode": "hybrid", "maxsim_weight": -0.1}, "maxsim_weight: expected a number from 0 to 1, got -0.1"),
        ({"mode": "hybrid", "maxsim_weight": float("nan")}, "maxsim_weight: expected a number from 0 to 1, got nan"),
    ],
)
def test_bad_modes_are_refused_by_name(client: Client, places: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        client.search(places, "dune", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["bm25", "rerank", "hybrid"])
def test_words_are_words_whatever_they_look_like(client: Client, places: str, mode: str) -> None:
    expected = ids(client.search(places, "dune AND mesa OR x", mode="bm25", top_k=5))
    hostile = ['"dune AND (mesa OR x', "dune:mesa^2 -AND +OR* x~", "dune'; DROP TABLE mesa; AND OR x --"]
    for query in hostile:
        found = client.search(places, query, mode=mode, top_k=5)
        assert len(found) == 5 and (mode != "bm25" or query is hostile[2] or ids(found) == expected)
    assert len(client.search(places, "?!", mode=mode)) == (0 if mode != "hybrid" else 10)
    assert len(client.search(places, "dune " * 50_000, mode=mode, top_k=3)) == 3
    with pytest.raises(InvalidArgument, match="text that is not empty"):
        client.search(places, " ", mode=mode)
    with pytest.raises(InvalidArgument, match="at most 262144 bytes"):
        client.search(places, "dune " * 210_000, mode=mode)


async def test_the_async_client_has_the_same_modes(server: TritonServer, client: Client, places: str) -> None:
    async with AsyncClient(server.address, timeout_s=60) as other:
        for mode in ("bm25", "rerank", "hybrid"):
            assert ids(await other.search(places, "mesa", mode=mode)) == ids(client.search(places, "mesa", mode=mode))
        (found,) = await other.search_batch(places, ["mesa"], exact=False, n_candidates=100)
        assert len(found) == 10
