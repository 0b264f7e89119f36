"""Candidate search: with every list probed and every document kept it is exact search; with less it loses little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tridex import kernels
from tridex.index import CollectionSpec, Document, Extra, Follower, Snapshot, Store
from tridex.index.resident import inverted_lists
from tridex.index.resident import snapshot as snapshots
from tridex.index.resident.inverted_lists import InvertedLists, count_entries, find_candidates, make_lists, probe
from tridex.kernels import Codec, Segment, decode_columns, train_codebook

DIM = 16
DOCUMENTS = 3000
ALL = torch.ones(DOCUMENTS, dtype=torch.bool)


def unit(array: NDArray[np.float64]) -> NDArray[np.float32]:
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def corpus(seed: int) -> list[NDArray[np.float32]]:
    """Documents whose tokens lie around 40 topics, as words lie around meanings; some documents have no token."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(40, DIM))
    lengths = rng.integers(0, 7, DOCUMENTS)
    return [unit(topics[rng.integers(0, 40, n)] + 0.4 * rng.normal(size=(n, DIM))) for n in lengths]


def queries(seed: int, count: int = 8) -> torch.Tensor:
    rng = np.random.default_rng([7, seed])
    documents = [document for document in corpus(seed) if len(document) >= 4]
    picked = np.stack([documents[i][:4] for i in rng.integers(0, len(documents), count)])
    return torch.from_numpy(unit(picked + 0.3 * rng.normal(size=picked.shape)))


def candidates(
    query: torch.Tensor, lists: InvertedLists, live: torch.Tensor, n_probe: int, n_candidates: int
) -> torch.Tensor:
    probes = probe(query, torch.ones(len(query), dtype=torch.bool), lists, n_probe)
    return find_candidates(probes, *count_entries([probes]), lists, live, n_candidates)


@pytest.fixture(scope="module", params=[Codec.FLOAT32, Codec.INT8, Codec.RESIDUAL4], ids=lambda codec: codec.value)
def segment(request: pytest.FixtureRequest) -> Segment:
    documents = corpus(0)
    codec: Codec = request.param
    codebook = train_codebook(np.concatenate(documents), codec, 64) if codec.residual_bits else None
    return kernels.pack(documents, codec, codebook=codebook)


@pytest.fixture(scope="module")
def lists(segment: Segment) -> InvertedLists:
    return make_lists(segment)


def test_every_token_leads_to_its_document(segment: Segment, lists: InvertedLists) -> None:
    of_document = {
        row: {c for c in range(len(lists.centroids)) if row in lists.rows[lists.starts[c] : lists.starts[c + 1]]}
        for row in (0, 1, 2, DOCUMENTS - 1)
    }
    for row, found in of_document.items():
        tokens = slice(int(segment.offsets[row]), int(segment.offsets[row + 1]))
        columns = kernels.Columns(*(None if column is None else column[tokens] for column in segment.columns))
        values = decode_columns(segment.codec, columns, segment.codebook, torch.float32)
        if segment.codebook is None:
            assert found == set((values @ lists.centroids.T).argmax(dim=1).tolist())
        else:
            assert columns.centroid_ids is not None and found == set(columns.centroid_ids.tolist())
    assert len(lists.rows) == lists.starts[-1] <= segment.tokens


@pytest.mark.parametrize("at_a_time", [64, 1 << 13])
def test_lists_made_in_parts_are_the_same(
    segment: Segment, lists: InvertedLists, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(inverted_lists, "_SORTED_AT_A_TIME", at_a_time)
    monkeypatch.setattr(inverted_lists, "_train", lambda _: lists.centroids)
    made = make_lists(segment)
    for one, other in zip((made.rows, made.starts), (lists.rows, lists.starts), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_the_approximate_score_is_the_formula(lists: InvertedLists) -> None:
    """Computed the slow way: from a set of centroids for each document."""
    query = queries(0, 1)[0]
    similarities = query @ lists.centroids.T
    of_row: dict[int, list[int]] = {row: [] for row in range(DOCUMENTS)}
    for c in range(len(lists.centroids)):
        for row in lists.rows[lists.starts[c] : lists.starts[c + 1]].tolist():
            of_row[row].append(c)
    for n_probe in (1, 3, len(lists.centroids)):
        approximate = np.zeros(DOCUMENTS)
        for values in similarities:
            ranked = values.sort(descending=True).values
            bound = float(ranked[min(n_probe, len(ranked) - 1)])
            for row, centroids in of_row.items():
                approximate[row] += max([bound, *(float(values[c]) for c in centroids)])
        chosen = candidates(query, lists, ALL, n_probe, 100)
        worst_in = approximate[chosen.numpy()].min()
        rest = np.delete(approximate, chosen.numpy())
        assert len(chosen) == 100 and rest.max() <= worst_in + 1e-5
        assert (chosen.diff() > 0).all()


def test_masked_tokens_find_nothing_where_they_are_not_taken_out(
    lists: InvertedLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU."""
    query, mask = torch.cat([queries(0)[0], queries(0)[1]]), torch.tensor([True, False] * 4)
    expected = candidates(query[mask], lists, ALL, 2, 100)
    monkeypatch.setattr(inverted_lists, "_without_masked", lambda query, mask: (query, mask))
    probes = probe(query, mask, lists, 2)
    (entries,) = count_entries([probes])
    assert len(entries) == 8 and not any(entries[1::2])
    assert torch.equal(find_candidates(probes, entries, lists, ALL, 100), expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), deleted=st.floats(0, 0.9), n_candidates=st.integers(1, 200))
def test_only_live_documents_are_candidates(lists: InvertedLists, seed: int, deleted: float, n_candidates: int) -> None:
    live = torch.from_numpy(np.random.default_rng(seed).random(DOCUMENTS) >= deleted)
    chosen = candidates(queries(0)[seed % 8], lists, live, 2, n_candidates)
    assert len(set(chosen.tolist())) == n_candidates and live[chosen].all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(-130, 126))
def test_a_query_of_any_magnitude_has_the_candidates_of_its_direction(lists: InvertedLists, seed: int, k: int) -> None:
    """In small whole numbers, which are exact as subnormal numbers too."""
    query = (queries(0)[seed % 8] * 1024).round() / 2**10
    chosen = candidates(query * 2.0**k, lists, ALL, 2, 100)
    assert torch.equal(chosen, candidates(query, lists, ALL, 2, 100))


def test_recall_grows_with_probes_and_candidates(segment: Segment, lists: InvertedLists) -> None:
    asked = queries(0, 64)
    _, exact = kernels.search(asked, segment, 10)

    def recall(n_probe: int, n_candidates: int) -> float:
        rows = [candidates(query, lists, ALL, n_probe, n_candidates).tolist() for query in asked]
        return float(np.mean([len({*top} & {*row}) / 10 for top, row in zip(exact.tolist(), rows, strict=True)]))

    by_candidates = [recall(8, n) for n in (10, 100, 300, DOCUMENTS)]
    assert by_candidates == sorted(by_candidates) and by_candidates[-1] == 1
    by_probes = [recall(n, 100) for n in (1, 4, len(lists.centroids))]
    assert by_probes == sorted(by_probes) and by_probes[-1] > 0.9


class Indexed:
    """A collection of the corpus and its follower."""

    def __init__(self, folder: Path, documents: list[NDArray[np.float32]]) -> None:
        store = Store(folder)
        spec = CollectionSpec(DIM, Codec.FLOAT32, "f" * 64)
        self.collection = store.create("c", spec)
        rows = [Document(f"{i:05}", f"text {i}", {}) for i in range(len(documents))]
        self.collection.upsert(rows, documents)
        self.follower = Follower(store, "c", torch.device("cpu"))


@pytest.fixture
def indexed(tmp_path: Path) -> Indexed:
    return Indexed(tmp_path, corpus(1))


def same(one: Snapshot, asked: torch.Tensor, top_k: int, n_probe: int, n_candidates: int) -> bool:
    mask = torch.ones(asked.shape[:2], dtype=torch.bool)
    mask[:, 0] = False
    exact = one.search(asked, mask, top_k)
    found = one.search_candidates(asked, mask, top_k, n_probe, n_candidates)
    return [(r.ids, r.scores.tolist(), r.addresses.tolist()) for r in exact] == [
        (r.ids, r.scores.tolist(), r.addresses.tolist()) for r in found
    ]


def test_lists_are_made_once_wanted_and_until_then_search_is_exact(indexed: Indexed) -> None:
    snapshot = indexed.follower.snapshot
    indexed.follower.make(Extra.INVERTED_LISTS)
    assert snapshot.segments[0].inverted.lists is None, "nobody asked for candidates yet"
    assert same(snapshot, queries(1), 10, n_probe=1, n_candidates=10)
    indexed.follower.make(Extra.INVERTED_LISTS)
    lists = snapshot.segments[0].inverted.lists
    assert lists is not None and not same(snapshot, queries(1), 10, n_probe=1, n_candidates=10)
    everything = len(lists.centroids)
    assert same(snapshot, queries(1), 10, everything, DOCUMENTS - 1)
    assert same(snapshot, queries(1), 10, 1, DOCUMENTS), "no more documents than candidates: exact"


def test_a_batch_waits_once(indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all of its queries and segments, to learn how long their lists are, and once for its results."""
    more = corpus(2)
    indexed.collection.upsert([Document(f"more {i:04}", "", {}) for i in range(len(more))], more)
    snapshot = indexed.follower.refresh()
    assert len(snapshot.segments) == 2
    mask = torch.ones((8, 4), dtype=torch.bool)
    snapshot.search_candidates(queries(1), mask, 10, 1, 10)
    indexed.follower.make(Extra.INVERTED_LISTS)
    waits = []

    def copy_to_host(*tensors: torch.Tensor) -> Callable[[], list[NDArray[Any]]]:
        waits.append(len(tensors))
        return lambda: [tensor.numpy() for tensor in tensors]

    monkeypatch.setattr(inverted_lists, "copy_to_host", copy_to_host)
    monkeypatch.setattr(snapshots, "copy_to_host", copy_to_host)
    snapshot.search_candidates(queries(1), mask, 10, 1, 10)
    assert waits == [1, 4]


def test_a_query_whose_tokens_are_all_masked_scores_nothing(indexed: Indexed) -> None:
    asked, mask = queries(1), torch.zeros((8, 4), dtype=torch.bool)
    for _ in range(2):
        found = indexed.follower.snapshot.search_candidates(asked, mask, 10, 1, 20)
        assert all(ranking.scores.tolist() == [0] * len(ranking.ids) for ranking in found)
        indexed.follower.make(Extra.INVERTED_LISTS)


def test_upserts_and_deletes_are_never_missed(indexed: Indexed) -> None:
    mask = torch.ones((1, 4), dtype=torch.bool)
    query = queries(1, 1)
    follower = indexed.follower
    follower.snapshot.search_candidates(query, mask, 10, 1, 10)
    follower.make(Extra.INVERTED_LISTS)
    (before,) = follower.snapshot.search_candidates(query, mask, 10, 1, 10)
    indexed.collection.upsert([Document("new", "the query itself", {})], [query[0].numpy()])
    snapshot = follower.refresh()
    (after,) = snapshot.search_candidates(query, mask, 10, 1, 10)
    assert after.ids == ["new", *before.ids[:9]] and snapshot.segments[0].inverted.lists is not None
    indexed.collection.delete(["new", before.ids[0]])
    (final,) = follower.refresh().search_candidates(query, mask, 10, 1, 10)
    assert not {"new", before.ids[0]} & {*final.ids} and {*before.ids[1:]} <= {*final.ids}


def test_a_merged_segment_gets_lists_without_being_asked_again(indexed: Indexed) -> None:
    snapshot = indexed.follower.snapshot
    snapshot.search_candidates(queries(1), torch.ones((8, 4), dtype=torch.bool), 10, 1, 10)
    indexed.follower.make(Extra.INVERTED_LISTS)
    more = corpus(2)[:1000]
    indexed.collection.upsert([Document(f"more {i:04}", "", {}) for i in range(len(more))], more)
    indexed.follower.refresh()
    assert indexed.follower.merge()
    merged = indexed.follower.snapshot
    assert len(merged.segments) == 1 and merged.segments[0].inverted.lists is None
    indexed.follower.make(Extra.INVERTED_LISTS)
    assert merged.segments[0].inverted.lists is not None


def test_a_filter_limits_the_candidates(tmp_path: Path) -> None:
    from tridex.index import declared_fields

    store = Store(tmp_path)
    collection = store.create("c", CollectionSpec(DIM, Codec.FLOAT32, "f" * 64, declared_fields({"part": "int"})))
    documents = corpus(3)
    collection.upsert([Document(f"{i:05}", "", {"part": i % 2}) for i in range(DOCUMENTS)], documents)
    follower = Follower(store, "c", torch.device("cpu"))
    odd = follower.snapshot.filtered({"field": "part", "operator": "==", "value": 1})
    mask = torch.ones((8, 4), dtype=torch.bool)
    odd.search_candidates(queries(3), mask, 10, 1, 10)
    follower.make(Extra.INVERTED_LISTS)
    found = odd.search_candidates(queries(3), mask, 10, 1, 20)
    assert all(int(key) % 2 for ranking in found for key in ranking.ids)
    assert all(len(ranking.ids) == 10 for ranking in found)
    everything = len(follower.snapshot.segments[0].inverted.lists.centroids)  # type: ignore[union-attr]
    assert same(odd, queries(3), 10, everything, 1499)
